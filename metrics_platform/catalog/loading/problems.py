"""Mistakes in a catalogue file.

They are collected while it is read and reported together, a line for each.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from metrics_platform.errors import PlatformError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """One mistake in a catalogue file."""

    file: str
    line: int  # from 1
    message: str  # what is wrong and what to write instead

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class CatalogError(PlatformError):
    """A catalogue cannot be used. `problems` holds every mistake, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Mistake(Exception):
    """A value cannot be used.

    Functions that read one value raise it; Report.attempt records it as a Problem.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Report:
    """The mistakes found so far in one file."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, line: int, message: str) -> None:
        """Record one mistake. Line breaks in the message become spaces, because a problem is one line."""
        self.problems.append(Problem(self.file, line, " ".join(message.split())))

    def attempt(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call `read` and return its result. If it raises Mistake, record that and return None."""
        try:
            return read(*args, **kwargs)
        except Mistake as mistake:
            self.add(mistake.line, str(mistake))
            return None

    def in_order(self) -> list[Problem]:
        """The problems in the order of their lines."""
        return sorted(self.problems, key=lambda problem: problem.line)


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name: the most similar known name, or the list of all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1) or [
        known for known in names if known.lower() == name.lower()
    ]
    if near:
        return f"did you mean '{near[0]}'?"
    return f"write one of: {', '.join(names)}" if names else "none is defined"
