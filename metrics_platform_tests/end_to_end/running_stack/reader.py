"""A reader of the documents: somebody in a folder like the repository's, beside the running stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.local.stack import Stack
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.connection import Connection
from metrics_platform_tests.docs.documents import ROOT, Block
from metrics_platform_tests.docs.exceptions import to_run
from metrics_platform_tests.docs.written_yaml import add_metrics, is_clusters

_DATE = re.compile(r"\d{4}-\d\d-\d\d[T\d:-]*")


@dataclass
class Reader:
    """Does what the blocks of a document say, in their order.

    `folder` has what a command of the documents names: the environment, the platform's files, those of the
    containers, and the stack's data as those of the default stack. `catalog` is the copy of a catalogue that
    the reader made last.
    """

    folder: Path
    zone: ZoneInfo
    store: Connection
    catalog: Path | None = None

    def follow(self, block: Block) -> None:
        """Run a shell block or an SQL block, or put the metrics of a YAML block into the catalogue."""
        if block.language == "sh":
            self._run(block)
        elif block.language == "sql":
            self._query(block)
        elif block.language == "yaml" and not is_clusters(block):
            assert self.catalog, f"{block}: no catalogue was copied before"
            add_metrics(block, self.catalog)

    def _run(self, block: Block) -> None:
        script = "\n".join(command.text for command in to_run(block))
        known = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._of_today(script)],
            cwd=self.folder,
            env={**known, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {script}\n{done.stdout}{done.stderr[-3000:]}"
        if copied := re.search(r"^cp \S+/webshop\.yaml (\S+)$", script, re.MULTILINE):
            self.catalog = self.folder / copied[1]

    def _query(self, block: Block) -> None:
        cursor = self.store.execute(block.text.encode())
        if re.search(r"from (metrics\.|platform\.(ledger|minute_events))", block.text):
            assert cursor.fetchall(), f"{block}: no row"

    def _of_today(self, script: str) -> str:
        """The script with the last complete hour in the place of the documents' 2026-11-22T10:00, and half a
        minute ago in the place of five past: the stack is too young for more."""
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        today = {
            "2026-11-22T10:00": self._local(hour),
            "2026-11-22T10:05": self._local(now - timedelta(seconds=30)),
            "2026-11-22T11:00": self._local(hour + timedelta(hours=1)),
            "2026-11-22-10:00": f"{hour:%Y-%m-%d-%H:%M}",
        }
        return _DATE.sub(lambda written: today[written[0]], script)

    def _local(self, instant: datetime) -> str:
        return f"{instant.astimezone(self.zone):%Y-%m-%dT%H:%M:%S}"


def new_reader(folder: Path, stack: Stack, store: Connection) -> Reader:
    """A reader in an empty folder."""
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".metrics-platform").symlink_to(stack.state.data_dir)
    (folder / "metrics_platform").symlink_to(PACKAGE)
    shutil.copytree(ROOT / "docker", folder / "docker")
    return Reader(folder, load_catalog(stack.state.catalog).calendar.zone, store)
