"""How the stack speaks to the person who started it."""

from __future__ import annotations

from typing import Protocol


class Say(Protocol):
    """Tells a person at a terminal what happens, one line at a time; `print` will do.

    What a run tells Dagster's log goes to a logger instead.
    """

    def __call__(self, line: str, /) -> None:
        """Show the line."""
        ...
