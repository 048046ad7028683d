"""Reads a metric's measure: `count`, or a measure with its input, such as `{sum: amount}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metrics_platform.catalog.expressions.parsing import Expression
from metrics_platform.catalog.loading.nodes import Section, Value
from metrics_platform.catalog.loading.problems import Report, suggestion
from metrics_platform.catalog.loading.readers import (
    read_column_type,
    read_expression,
    read_flag,
    read_share,
)
from metrics_platform.catalog.measures import (
    MEASURES,
    Count,
    Distinct,
    ExactDistinct,
    Measure,
    Percentiles,
    is_numeric,
    percentile_column,
)

_COUNT = "measure: count"
_RANKS = "at: [0.5, 0.95, 0.99]"
# The options of measures, each with the measure that it belongs to; None stands for every measure.
_OPTIONS = {"type": None, "exact": Distinct, "at": Percentiles, "precision": Percentiles}
# Finer percentiles would need sketches of a megabyte, coarser ones would say nothing.
_FINEST, _COARSEST = 0.0001, 0.05
# Names that people know from elsewhere -> the measure that they mean.
_HABITS = {
    "average": "avg",
    "count_distinct": "distinct",
    "maximum": "max",
    "mean": "avg",
    "median": "percentiles",
    "minimum": "min",
    "percentile": "percentiles",
    "quantiles": "percentiles",
    "total": "sum",
    "unique": "distinct",
    "uniques": "distinct",
}
# The column of a percentile is named after its rank in per cent, with at most this many decimals.
_RANK_DECIMALS = 6


def read_measure(report: Report, fields: Mapping[str, str | None], value: Value) -> Measure | None:
    """Read a measure. `fields` maps the names of the event's fields to their Spark types.

    Returns None after a mistake that went to the report; raises Mistake for others.
    """
    if not value.is_mapping:
        return _read_bare(value)
    entries = value.entries(report, _COUNT)
    chosen = _choose(value, entries)
    measure = MEASURES[chosen]
    section = Section(report, entries)
    explicit = section.read("type", read_column_type)
    options = {
        "exact": section.read("exact", read_flag),
        "at": section.read("at", _read_ranks),
        "precision": section.read("precision", _read_precision),
    }
    for name, owner in _OPTIONS.items():
        if name in entries and owner not in (None, measure):
            report.add(entries[name].key_line, f"{chosen}: `{name}` belongs to {owner.name} alone; remove it")
    source = entries[chosen]
    expression = read_expression(source, source.text(f"{chosen}: FIELD"), fields)
    type_ = explicit or expression.type
    if any(name in entries and read is None for name, read in {"type": explicit, **options}.items()):
        return None
    if type_ is None and not expression.complete:
        return None
    return _build(measure, expression.sql, _check_type(source, chosen, expression, type_), options)


def _build(measure: type[Measure], sql: str, type_: str, options: Mapping[str, Any]) -> Measure:
    if measure is Percentiles:
        given = {name: options[name] for name in ("at", "precision") if options[name] is not None}
        return Percentiles(sql, type_, **given)
    return (ExactDistinct if measure is Distinct and options["exact"] else measure)(sql, type_)


def _read_bare(value: Value) -> Measure:
    name = value.text(_COUNT)
    if name == Count.name:
        return Count()
    if name in MEASURES:
        raise value.mistake(f"{name} needs an input; write measure: {{{name}: FIELD}}")
    raise value.mistake(_unknown(name))


def _unknown(name: str) -> str:
    habit = _HABITS.get(name.lower())
    return f"unknown measure '{name}'; " + (f"write '{habit}'" if habit else suggestion(name, MEASURES))


def _choose(value: Value, entries: Mapping[str, Value]) -> str:
    names = [name for name in entries if name not in _OPTIONS]
    chosen = [name for name in names if name in MEASURES]
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        line = entries[unknown[0]]
        raise Value(line.node, value.label, line.key_line).mistake(_unknown(unknown[0]))
    if not chosen:
        raise value.mistake(
            f"no measure is named; write one of: count, {{sum: FIELD}}, {', '.join(MEASURES)}"
        )
    if len(chosen) > 1:
        raise value.mistake(f"a metric has one measure, not {' and '.join(chosen)}; write a metric for each")
    if chosen[0] == Count.name:
        raise value.mistake(f"count takes no input; write {_COUNT}")
    return chosen[0]


def _check_type(source: Value, measure: str, expression: Expression, type_: str | None) -> str:
    if type_ is None:
        raise source.mistake(
            f"the type of '{expression.sql}' cannot be told; "
            f'write measure: {{{measure}: "{expression.sql}", type: double}} with its type'
        )
    if measure != Distinct.name and not is_numeric(type_):
        raise source.mistake(
            f"'{expression.sql}' is {type_}, no number; "
            f"use a numeric field or write {measure}: try_cast({expression.sql} as double)"
        )
    return type_


def _read_ranks(value: Value) -> tuple[float, ...]:
    ranks: list[float] = []
    for item in value.items(_RANKS):
        rank = _read_rank(item)
        if percentile_column(rank) in map(percentile_column, ranks):
            raise item.mistake(f"{rank:g} is listed twice; remove one")
        ranks.append(rank)
    return tuple(ranks)


def _read_rank(item: Value) -> float:
    text = item.text(_RANKS)
    try:
        rank = float(text)
    except ValueError:
        raise item.mistake(f"'{text}' is no number; write a rank between 0 and 1, such as 0.95") from None
    if not 0 < rank < 1:
        near = f"{rank / 100:g}" if 1 < rank < 100 else "0.95"
        raise item.mistake(f"{text} is no rank between 0 and 1; write {near}")
    if not math.isclose(rank * 100, round(rank * 100, _RANK_DECIMALS), rel_tol=0, abs_tol=1e-10):
        raise item.mistake(f"{text} is finer than the columns' names tell; write at most 8 decimals")
    return rank


def _read_precision(value: Value) -> float:
    precision = read_share(value)
    if not _FINEST <= precision <= _COARSEST:
        raise value.mistake(
            f"percentiles are within {_FINEST:.2%} to {_COARSEST:.0%} of rank; write precision: 0.3%"
        )
    return precision
