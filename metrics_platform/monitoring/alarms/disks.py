"""How full the file systems are that the platform's data lie on, as far as they are this host's."""

from __future__ import annotations

import ipaddress
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from metrics_platform.settings import dagster_home
from metrics_platform.store.connection import Connection

RAW_STORE, DAGSTER, POSTGRES = "raw store", "Dagster", "PostgreSQL"


@dataclass(frozen=True)
class Disk:
    """One file system."""

    holds: tuple[str, ...]  # whose data lie on it
    path: Path
    used: float  # a share of what ordinary users can fill


@dataclass(frozen=True)
class Disks:
    """The file systems that were looked at, and what was not, each with the reason."""

    disks: tuple[Disk, ...]
    not_seen: Mapping[str, str]


def look_at_disks(raw_store: str, conn: Connection) -> Disks:
    """Look at the file systems of the raw store, of Dagster's files and of PostgreSQL's data."""
    places = {RAW_STORE: _raw_store(raw_store), DAGSTER: _dagster(), POSTGRES: _postgres(conn)}
    by_device: defaultdict[int, dict[str, Path]] = defaultdict(dict)
    not_seen: dict[str, str] = {}
    for name, place in places.items():
        if isinstance(place, str):
            not_seen[name] = place
            continue
        try:
            there = _existing(place)
            by_device[there.stat().st_dev][name] = there
        except OSError as error:
            not_seen[name] = f"{place}: {error.strerror}"
    return Disks(
        tuple(
            Disk(tuple(held), path := next(iter(held.values())), used(path)) for held in by_device.values()
        ),
        not_seen,
    )


def used(path: Path) -> float:
    """The used share of the path's file system, as df counts it: without what is reserved for root."""
    found = os.statvfs(path)
    taken = found.f_blocks - found.f_bfree
    return taken / max(taken + found.f_bavail, 1)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above that exists: the raw store's is made by the first ingestion."""
    return next(one for one in (path, *path.parents) if one.exists())


def _raw_store(url: str) -> Path | str:
    parts = urlsplit(url)
    if parts.scheme not in {"", "file"}:
        return f"it lies on {parts.scheme}:, not on this host"
    return Path(parts.path).absolute()


def _dagster() -> Path | str:
    return dagster_home() or "DAGSTER_HOME is not set here"


def _postgres(conn: Connection) -> Path | str:
    if not _is_here(conn.info.host):
        return f"its server is {conn.info.host}, not this host"
    row = conn.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    return Path(row[0]) if row else "the role may not ask for data_directory; grant it pg_read_all_settings"


def _is_here(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
