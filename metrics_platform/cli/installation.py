"""Which installation a command speaks of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from metrics_platform.local import state
from metrics_platform.local.environment import environment
from metrics_platform.settings import PREFIX, Settings

_PLACES = ("CLUSTERS", "POSTGRES", "RAW_STORE")

DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help=f"The stack to ask. Without it {PREFIX}* variables say where, or else the default stack.",
    ),
]


def installation(data_dir: Path | None, *needed: str) -> Settings:
    """The settings of the stack in `data_dir`; without it the environment's, if that says where the first of
    `needed` is, or else the default stack's. The environment need not name places beside `needed`.
    """
    if data_dir is None and PREFIX + needed[0] in os.environ:
        unneeded = {PREFIX + place: "" for place in _PLACES if place not in needed}
        return Settings.from_environment(unneeded | dict(os.environ))
    stack = state.require((data_dir or state.DATA_DIR).resolve())
    return Settings.from_environment(environment(stack))
