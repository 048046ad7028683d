"""Which installation a command is about, and how people write times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from metrics_platform.local import state
from metrics_platform.local.environment import environment
from metrics_platform.settings import PREFIX, Settings

UI = PREFIX + "DAGSTER_UI"
LINK = PREFIX + "DAGSTER_UI_LINK"  # the same for people, where their browsers reach it at another address
_YEARS = range(1900, 2200)  # what 64 bits hold in nanoseconds, as some readers of the raw store count
_PLACES = ("CLUSTERS", "POSTGRES", "RAW_STORE")

DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help=f"The stack to ask. Without it {PREFIX}* variables say where, or else the default stack.",
    ),
]


def installation_variables(data_dir: Path | None, first: str = "POSTGRES") -> Mapping[str, str]:
    """The variables that describe an installation: those of the stack in `data_dir` if one is given.

    Otherwise the environment's, if METRICS_PLATFORM_`first` is among them, or else those of the default
    stack.
    """
    if data_dir is None and PREFIX + first in os.environ:
        return os.environ
    return environment(state.require((data_dir or state.DATA_DIR).resolve()))


def installation(data_dir: Path | None, *needed: str) -> Settings:
    """The settings of an installation (see `installation_variables`).

    `needed` are the places that the command uses, such as POSTGRES; others may be missing.
    """
    unneeded = {PREFIX + place: "" for place in _PLACES if place not in needed}
    return Settings.from_environment({**unneeded, **installation_variables(data_dir, needed[0])})


def ui_link(known: Mapping[str, str]) -> str | None:
    """The Dagster UI's address for people."""
    return known.get(LINK) or known.get(UI)


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """Read an instant that a person wrote in ISO 8601; returns it in UTC.

    A time without an offset is in the catalogue's time zone. One that clocks there show twice, or never,
    because they are changed at that hour, is refused as wrong usage.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write it as 2026-01-31T10:00") from None
    if read.year not in _YEARS:
        raise typer.BadParameter(f"'{text}' is out of reach; write a year from {_YEARS[0]} to {_YEARS[-1]}")
    if read.tzinfo:
        return read.astimezone(UTC)
    first, second = (read.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    instant = first.astimezone(UTC)
    if first.utcoffset() != second.utcoffset():
        times = "twice" if instant.astimezone(zone).replace(tzinfo=None) == read else "never"
        either = " or ".join(each.isoformat(timespec="minutes") for each in (first, second))
        raise typer.BadParameter(f"clocks in {zone.key} show '{text}' {times}; write {either}")
    return instant
