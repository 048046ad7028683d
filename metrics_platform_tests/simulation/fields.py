"""Fields of random events: their values and the JSON texts for them.

A drawn value is a pair of the field's value, as the platform must read it, and the JSON text for it. The text
is None if the field is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa

Drawn = tuple[Any, str | None]

# Texts that readers often get wrong: quotes, separators, line ends, words for null, unusual characters.
ODD_TEXTS = (
    "", " ", "O'Brien", 'say "hi"', "a,b;c", "tab\there", "line\nbreak", "return\r\n", "\\N", "NULL", "null",
    "\\", "{x}", "%s $1", "\N{OWL}", "e\u0301", "\u00e9", "nul\0in", "nul\ufffdin", "x" * 300, "\u202eright",
    "\u0130", "\ufeffmark", "\u2028line", "1e5", "true",
)  # fmt: skip
PAGES = ("/", "/home", "/shop/a", "/shop/b", "/shop/b/c", "/\u00dcn\u00ef/\u00df")


@dataclass(frozen=True)
class FieldRule:
    """A field and its possible values."""

    name: str
    type: str  # in the catalogue
    arrow: pa.DataType  # in the file of sent records
    draw: Callable[[Random], Drawn]
    wrong: tuple[str, ...] = ()  # JSON texts that do not fit the type


def _text(odd: float, *common: str) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        value = random.choice(ODD_TEXTS) if random.random() < odd else random.choice(common)
        return value, json.dumps(value, ensure_ascii=random.random() < 0.5)

    return draw


def _user(random: Random) -> Drawn:
    number = int(random.paretovariate(0.7)) % 3000
    # A value in a string field that is no string is read as its JSON text.
    return (str(number), str(number)) if number % 50 == 0 else (f"u{number}", f'"u{number}"')


def _whole(low: int, high: int, *special: int) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        value = random.choice(special) if special and random.random() < 0.1 else random.randint(low, high)
        return value, str(value)

    return draw


def _cents(low: int, high: int) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        value = Decimal(random.randint(low, high)).scaleb(-2)
        # A decimal may be written as a string, and with more decimals than its scale.
        text = f"{value}4" if random.random() < 0.05 else str(value)
        return value, f'"{text}"' if random.random() < 0.2 else text

    return draw


def _double(random: Random) -> Drawn:
    value = (
        random.choice((0.0, 1.0, 1e-9, 12345678.9)) if random.random() < 0.05 else random.expovariate(0.005)
    )
    return value, repr(value)


def _one_of(*values: float) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        value = random.choice(values)
        return value, repr(value)

    return draw


def _flag(random: Random) -> Drawn:
    value = random.random() < 0.6
    return value, json.dumps(value)


def _day(random: Random) -> Drawn:
    value = date(2024, 2, 28) + timedelta(days=random.randint(0, 3))
    return value, f'"{value}"'


def _seen(random: Random) -> Drawn:
    value = datetime(2025, 12, 31, 23, 59, 59, 999_999, UTC) + timedelta(hours=random.randint(-3, 3))
    return value, f'"{value.isoformat()}"'


_LARGE = 2**62
FIELDS = (
    FieldRule("page", "string", pa.string(), _text(0.2, *PAGES)),
    FieldRule("country", "string", pa.string(), _text(0.05, "DE", "AT", "CH", "FR", "de")),
    FieldRule("visitor", "string", pa.string(), _user),
    FieldRule("code", "int", pa.int32(), _whole(-3, 4), ('"x"', "1.5", "true", "99999999999", "{}")),
    FieldRule("total", "bigint", pa.int64(), _whole(-1000, 100_000, _LARGE, -_LARGE), ('"x"', "0.5", "[]")),
    FieldRule("amount", "decimal(12,2)", pa.decimal128(12, 2), _cents(-500, 200_000), ('"x"', "{}", "true")),
    FieldRule("price", "decimal(10,2)", pa.decimal128(10, 2), _cents(99, 104), ('"x"', "[1]")),
    FieldRule("took", "double", pa.float64(), _double, ('"x"', "true", "{}")),
    FieldRule("ratio", "double", pa.float64(), _one_of(0.5, 0.1, 0.0, -1.5, 1e300), ('"x"', "[]")),
    FieldRule("flag", "boolean", pa.bool_(), _flag, ('"yes"', "1", "{}")),
    FieldRule("born", "date", pa.date32(), _day, ('"2026-13-01"', '"soon"')),
    FieldRule("seen", "timestamp", pa.timestamp("us", "UTC"), _seen, ('"noon"', '"2026-02-30T00:00:00Z"')),
)
