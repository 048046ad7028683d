"""Reads the `metrics` part of a catalogue: filters, dimensions and measures over kinds of events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from metrics_platform.catalog.loading.events import KindDraft
from metrics_platform.catalog.loading.measure import read_measure
from metrics_platform.catalog.loading.nodes import Value
from metrics_platform.catalog.loading.problems import Mistake, Report, suggestion
from metrics_platform.catalog.loading.readers import check_name, read_column_type, read_expression, read_share
from metrics_platform.catalog.measures import Measure
from metrics_platform.catalog.model import Accuracy, Dimension, Metric

ACCURACY_EXAMPLE = "accuracy: {warn: 1%, fail: 5%}"
_KEYS = {
    "description": "description: Clicks on each page.",
    "owner": "owner: team:web",
    "events": "events: orders",
    "filter": "filter: type = 'click'",
    "dimensions": "dimensions: [page]",
    "measure": "measure: count",
    "accuracy": ACCURACY_EXAMPLE,
    "max_groups": "max_groups: 100000",
}
_REQUIRED = frozenset({"events", "measure"})
_DIMENSION_KEYS = {"expression": "expression: lower(page)", "type": "type: string"}
_ACCURACY_KEYS = {"warn": "warn: 1%", "fail": "fail: 5%"}
_OWNER = re.compile(r"team:\S+|[^@\s]+@[^@\s]+\.[^@\s]+")

# Columns that every relation or its labelled view has, and the names of PostgreSQL's system columns.
_RESERVED = frozenset(
    {
        *(
            "grain",
            "window_start",
            "window_end",
            "value",
            "events",
            "label",
            "source",
            "coverage",
            "revision",
        ),
        *("age", "computed_at", "definition", "committed_at", "first_committed_at", "exact_at", "run_id"),
        *("minutes_present", "minutes_total", "error_band", "error_of", "revision_id", "overflowed"),
        *("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"),
    }
)

# Words that PostgreSQL evaluates where a query does not quote them: `select user` returns the name of the
# role instead of the column, without an error. (Other reserved words, such as order, give a syntax error.)
_EVALUATED = frozenset(
    {
        *("user", "current_user", "session_user", "system_user", "current_role"),
        *("current_catalog", "current_schema"),
        *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"),
        *("true", "false", "null"),
    }
)


def read_metrics(
    report: Report, kinds: Mapping[str, KindDraft], accuracy: Accuracy, value: Value
) -> tuple[Metric, ...]:
    """Read all metrics, in the order of the file. Mistakes go to the report, and their metrics are left out.

    Metrics that have no `accuracy` of their own get the given one.
    """
    entries = value.entries(report, "metrics: {orders_per_country: {events: orders, measure: count}}")
    for entry in entries.values():
        report.attempt(check_name, entry, "metric")
    read = [report.attempt(_read_metric, report, kinds, accuracy, entry) for entry in entries.values()]
    return tuple(metric for metric in read if metric)


def read_accuracy(report: Report, value: Value) -> Accuracy | None:
    """Read the errors at which a check warns and fails.

    Returns None after a mistake that went to the report.
    """
    section = value.section(report, _ACCURACY_KEYS, frozenset(_ACCURACY_KEYS))
    warn, fail = section.read("warn", read_share), section.read("fail", read_share)
    if warn is None or fail is None:
        return None
    if warn > fail:
        raise value.mistake("a number would fail before it warns; write the smaller share as warn")
    return Accuracy(warn, fail)


def _read_metric(
    report: Report, kinds: Mapping[str, KindDraft], accuracy: Accuracy, value: Value
) -> Metric | None:
    section = value.section(report, _KEYS, _REQUIRED)
    description = section.read("description", lambda text: text.text(_KEYS["description"])) or ""
    owner = section.read("owner", _read_owner)
    accuracy = section.read("accuracy", partial(read_accuracy, report)) or accuracy
    max_groups = section.read("max_groups", _read_max_groups) or Metric.max_groups
    kind = section.read("events", partial(_read_kind_name, kinds))
    if kind is None or not kinds[kind].fields:
        return None  # reported already; without fields nothing else can be checked
    fields = kinds[kind].column_types
    filter_ = section.read("filter", partial(_read_filter, fields))
    measure = section.read("measure", partial(read_measure, report, fields))
    dimensions = section.read("dimensions", partial(_read_dimensions, report, fields, measure)) or ()
    if measure is None:
        return None
    return Metric(
        value.label,
        kind,
        measure,
        dimensions,
        filter_,
        description,
        owner,
        accuracy=accuracy,
        max_groups=max_groups,
    )


def _read_owner(value: Value) -> str:
    owner = value.text(_KEYS["owner"])
    if not _OWNER.fullmatch(owner):
        raise value.mistake(f"'{owner}' is no owner; write a team as team:web, or an e-mail address")
    return owner


def _read_max_groups(value: Value) -> int:
    text = value.text(_KEYS["max_groups"])
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise value.mistake(f"'{text}' is no number of groups; write a whole number: {_KEYS['max_groups']}")
    return int(text)


def _read_kind_name(kinds: Mapping[str, KindDraft], value: Value) -> str:
    name = value.text(_KEYS["events"])
    if name not in kinds:
        raise value.mistake(f"unknown kind of event '{name}'; {suggestion(name, kinds)}")
    return name


def _read_filter(fields: Mapping[str, str | None], value: Value) -> str:
    expression = read_expression(value, value.text(_KEYS["filter"]), fields)
    if expression.type not in (None, "boolean"):
        raise value.mistake(
            f"'{expression.sql}' is {expression.type}, not true or false; "
            "write a condition, such as type = 'click'"
        )
    return expression.sql


def _read_dimensions(
    report: Report, fields: Mapping[str, str | None], measure: Measure | None, value: Value
) -> tuple[Dimension, ...]:
    entries = _listed(report, value) if value.is_list else value.entries(report, _KEYS["dimensions"])
    reserved = _reserved(measure)
    for entry in entries.values():
        report.attempt(_check_dimension_name, entry, reserved)
    read = [report.attempt(_read_dimension, report, fields, entry) for entry in entries.values()]
    return tuple(dimension for dimension in read if dimension)


def _listed(report: Report, value: Value) -> dict[str, Value]:
    """The dimensions of a list of fields: [page] means {page: page}."""
    dimensions: dict[str, Value] = {}
    for item in value.items(_KEYS["dimensions"]):
        name = report.attempt(item.text, _KEYS["dimensions"])
        if name in dimensions:
            report.add(item.line, f"dimension '{name}' is listed twice; remove one")
        elif name and not re.fullmatch(r"\w+", name):
            report.add(
                item.line, f"dimensions: '{name}' needs a name; write dimensions: {{NAME: \"{name}\"}}"
            )
        elif name:
            dimensions[name] = Value(item.node, name, item.line)
    return dimensions


def _reserved(measure: Measure | None) -> frozenset[str]:
    if measure is None:
        return _RESERVED
    return _RESERVED | {column.name for column in (*measure.states, *measure.values)}


def _check_dimension_name(value: Value, reserved: frozenset[str]) -> None:
    check_name(value, "dimension")
    if value.label in reserved:
        raise Mistake(
            value.key_line,
            f"'{value.label}' is a column that the platform adds itself; "
            f"write another name: {value.label}_of_event: ...",
        )
    if value.label in _EVALUATED:
        raise Mistake(
            value.key_line,
            f"PostgreSQL reads an unquoted '{value.label}' as a value of its own, not as the column; "
            f"write another name: {value.label}_of_event: ...",
        )


def _read_dimension(report: Report, fields: Mapping[str, str | None], value: Value) -> Dimension | None:
    explicit, source = None, value
    if value.is_mapping:
        section = value.section(report, _DIMENSION_KEYS, frozenset({"expression"}))
        if "expression" not in section.values:
            return None
        source = section.values["expression"]
        explicit = section.read("type", read_column_type)
        if explicit is None and "type" in section.values:
            return None
    expression = read_expression(source, source.text(_DIMENSION_KEYS["expression"]), fields)
    type_ = explicit or expression.type
    if type_ is None:
        if not expression.complete:
            return None
        raise source.mistake(
            f"the type of '{expression.sql}' cannot be told; "
            f'write {value.label}: {{expression: "{expression.sql}", type: string}} with its type'
        )
    return Dimension(value.label, expression.sql, type_)
