"""The names of types that people may write for a field or column, and the Spark types that they mean."""

from __future__ import annotations

import difflib
import re

from metrics_platform.catalog.model import EPOCH_UNITS

# Another name of a type -> its name in the model.
_ALIASES = {"long": "bigint", "integer": "int"}
_SIMPLE = frozenset({"string", "int", "bigint", "double", "boolean", "date", "timestamp"})
# Names that people know from elsewhere -> the type to suggest.
_HABITS = {
    "bool": "boolean",
    "byte": "int",
    "char": "string",
    "datetime": "timestamp",
    "decimal": "decimal(12,2)",
    "epoch": "epoch_millis",
    "float": "double",
    "money": "decimal(12,2)",
    "number": "double",
    "numeric": "decimal(12,2)",
    "real": "double",
    "short": "int",
    "smallint": "int",
    "str": "string",
    "text": "string",
    "uuid": "string",
    "varchar": "string",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)", re.ASCII)
# The most digits that a decimal can have in Spark; PostgreSQL allows more.
_MAX_PRECISION = 38


def field_type(text: str) -> str:
    """The type of an event's field: a Spark type or one of EPOCH_UNITS.

    Raises ValueError, whose message says what to write instead.
    """
    name = _normal(text)
    return name if name in EPOCH_UNITS else _column_type(text, _SIMPLE | EPOCH_UNITS.keys())


def column_type(text: str) -> str:
    """The Spark type of a dimension or of a measure's input.

    Raises ValueError, whose message says what to write instead.
    """
    return _column_type(text, _SIMPLE)


def _column_type(text: str, simple: frozenset[str]) -> str:
    name = _normal(text)
    name = _ALIASES.get(name, name)
    match = _DECIMAL.fullmatch(name)
    if match:
        return _decimal(int(match[1]), int(match[2]))
    if name not in simple:
        raise ValueError(f"unknown type '{text}'; {_instead(name, simple)}")
    return name


def _decimal(precision: int, scale: int) -> str:
    if not 1 <= precision <= _MAX_PRECISION or scale > precision:
        raise ValueError(
            f"decimal({precision},{scale}) holds no number; write decimal(digits,decimals) "
            f"with 1 to {_MAX_PRECISION} digits and no more decimals than digits"
        )
    return f"decimal({precision},{scale})"


def _instead(name: str, simple: frozenset[str]) -> str:
    word = re.split(r"\W", name)[0]
    near = [_HABITS[word]] if word in _HABITS else difflib.get_close_matches(name, sorted(simple), n=1)
    return f"write {near[0]}" if near else f"write one of: {', '.join(sorted(simple))}, decimal(12,2)"


def _normal(text: str) -> str:
    return re.sub(r"\s", "", text).lower()
