"""Lengths of time as people write them: 90s, 3m, 12h, 7d, 10w, 3y."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdwy])", re.ASCII)
# Long enough for any archive, and short enough that adding it to a date cannot overflow.
_LONGEST = 1000 * _UNITS["y"]


def parse_duration(text: str) -> timedelta:
    """Read a whole number and a unit: s, m, h, d, w or y (365 days).

    Raises ValueError, whose message says what to write instead.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"'{text}' is no length of time; write a number and a unit: 90s, 3m, 12h, 7d, 10w or 3y"
        )
    number, unit = int(match[1]), _UNITS[match[2]]
    if number == 0:
        raise ValueError(f"'{text}' is no time at all; write a length above zero, such as 1{match[2]}")
    if number > _LONGEST // unit:
        raise ValueError(f"'{text}' is too long; write at most 1000y")
    return number * unit


def format_duration(duration: timedelta) -> str:
    """Write a duration of whole seconds with the largest unit that divides it: 120 seconds give 2m.

    parse_duration reads the result.
    """
    symbol, unit = next((symbol, unit) for symbol, unit in _UNITS.items() if not duration % unit)
    return f"{duration // unit}{symbol}"
