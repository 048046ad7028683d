"""Functions that read one value, shared by the parts of a catalogue.

Each raises Mistake, whose message says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from metrics_platform.catalog.expressions.parsing import Expression, ExpressionError, check_expression
from metrics_platform.catalog.loading.durations import parse_duration
from metrics_platform.catalog.loading.nodes import Value
from metrics_platform.catalog.loading.problems import Mistake
from metrics_platform.catalog.loading.types import column_type

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", re.ASCII)
# PostgreSQL cuts names at 63 bytes. At most 51 leave room for what the platform appends, as for an index.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}", re.ASCII)


def check_name(value: Value, what: str) -> None:
    """Raises Mistake unless the value's key can name a relation or column in SQL without quotes.

    `what` is the thing to be named, such as "metric".
    """
    name = value.label
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "_", _snake(name)).strip("_")[:51]
        better = better if _NAME.fullmatch(better) else f"{what[0]}_{better}"[:51].rstrip("_")
        raise Mistake(
            value.key_line,
            f"'{name}' cannot name a {what}: use at most 51 lower-case letters, digits and _, "
            f"starting with a letter; write {better}",
        )


def read_expression(value: Value, sql: str, fields: Mapping[str, str | None]) -> Expression:
    """Check the expression `sql` in `value`. `fields` maps the event's fields to their Spark types."""
    try:
        return check_expression(sql, fields)
    except ExpressionError as error:
        raise value.mistake(str(error)) from None


def read_column_type(value: Value) -> str:
    """Read the Spark type of a column."""
    try:
        return column_type(value.text("type: string"))
    except ValueError as error:
        raise value.mistake(str(error)) from None


def read_duration(value: Value) -> timedelta:
    """Read a length of time, such as 7d."""
    try:
        return parse_duration(value.text(f"{value.label}: 7d"))
    except ValueError as error:
        raise value.mistake(str(error)) from None


def read_share(value: Value) -> float:
    """Read a share in per cent, such as 0.5%, as a fraction: 0.005."""
    text = value.text(f"{value.label}: 1%")
    match = _SHARE.fullmatch(text)
    if not match:
        raise value.mistake(f"'{text}' is no share; write a number and a percent sign: 0.5%, 1% or 10%")
    return float(match[1]) / 100


def read_flag(value: Value) -> bool:
    """Read true or false."""
    text = value.text(f"{value.label}: true").lower()
    if text not in ("true", "false"):
        raise value.mistake(f"'{text}' is neither true nor false; write {value.label}: true")
    return text == "true"


def _snake(name: str) -> str:
    """Turn clicksPerPage into clicks_per_page."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
