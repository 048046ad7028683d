"""Readers of single values that several parts of a catalogue share. All raise Mistake with what to write."""

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
# PostgreSQL cuts names at 63 bytes; what the platform adds to a name (indexes and such) fits behind these 51.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}", re.ASCII)


def check_name(value: Value, what: str) -> None:
    """Raises Mistake unless the value's key can name a relation or column everywhere without quotes."""
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
    """The checked expression `sql`, which stands in `value`, over fields (name to Spark type)."""
    try:
        return check_expression(sql, fields)
    except ExpressionError as error:
        raise value.mistake(str(error)) from None


def read_column_type(value: Value) -> str:
    """The Spark type behind the key `type`."""
    try:
        return column_type(value.text("type: string"))
    except ValueError as error:
        raise value.mistake(str(error)) from None


def read_duration(value: Value) -> timedelta:
    """A length of time such as 7d."""
    try:
        return parse_duration(value.text(f"{value.label}: 7d"))
    except ValueError as error:
        raise value.mistake(str(error)) from None


def read_share(value: Value) -> float:
    """A share of something such as 0.5%, as a fraction."""
    text = value.text(f"{value.label}: 1%")
    match = _SHARE.fullmatch(text)
    if not match:
        raise value.mistake(f"'{text}' is no share; write a number and a percent sign: 0.5%, 1% or 10%")
    return float(match[1]) / 100


def _snake(name: str) -> str:
    """clicksPerPage is clicks_per_page."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
