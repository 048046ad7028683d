"""The Java that Kafka and Spark run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from metrics_platform.errors import StackError

OLDEST = 17  # Spark 4.2 and Kafka 4.3 need it


def java(environment: Mapping[str, str] = os.environ) -> Path:
    """The java program: of JAVA_HOME when that is set, otherwise of the PATH.

    Raises StackError when there is none or it is too old.
    """
    home = environment.get("JAVA_HOME")
    found = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environment.get("PATH"))
    if found is None or not Path(found).exists():
        where = f"in JAVA_HOME ({home})" if home else "on the PATH"
        raise StackError(f"no java {where}; install Java {OLDEST} or newer")
    version = _version(found)
    if version < OLDEST:
        raise StackError(f"{found} is Java {version}; set JAVA_HOME to Java {OLDEST} or newer")
    return Path(found)


def _version(program: str) -> int:
    printed = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', printed.stderr + printed.stdout)
    return int(match.group(1)) if match else 0
