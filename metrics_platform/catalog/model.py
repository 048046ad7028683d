"""What a catalogue defines: kinds of events and the metrics over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

from metrics_platform.catalog.measures import Column, Measure
from metrics_platform.catalog.windows import Calendar, Grain, parent_grain

# Spark type of a field or expression -> PostgreSQL type of the column that holds it.
PG_TYPES = {
    "string": "text",
    "int": "bigint",
    "bigint": "bigint",
    "double": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
}
# The types of fields that are numbers since 1970, decoded as timestamps -> units in a second.
EPOCH_UNITS = {
    "epoch_seconds": 1,
    "epoch_millis": 1_000,
    "epoch_micros": 1_000_000,
    "epoch_nanos": 1_000_000_000,
}


def pg_type(spark_type: str) -> str:
    """The PostgreSQL type of a column that holds values of a Spark type. Decimals become numeric."""
    return "numeric" if spark_type.startswith("decimal") else PG_TYPES[spark_type]


@dataclass(frozen=True)
class Field:
    """A typed field of an event's JSON."""

    name: str
    type: str  # a Spark type or one of EPOCH_UNITS
    required: bool = False  # whether an event without the field is rejected
    null_if_bad: bool = (
        False  # whether a value of another type is read as null, instead of rejecting the event
    )

    @property
    def is_epoch(self) -> bool:
        """Whether the field is a number since 1970."""
        return self.type in EPOCH_UNITS

    @property
    def column_type(self) -> str:
        """The Spark type of the decoded column."""
        return "timestamp" if self.is_epoch else self.type


@dataclass(frozen=True)
class EventKind:
    """One kind of event: the Kafka topics that carry it and the fields of its JSON."""

    name: str
    topics: tuple[str, ...]
    id_field: str  # the name of the field that identifies an event; required in every event
    time_field: str  # the name of the field that holds the event time; required in every event
    fields: tuple[Field, ...]
    clusters: tuple[str, ...] = ()  # the Kafka clusters that carry the topics; empty means all clusters

    def field(self, name: str) -> Field:
        """The field of that name. Raises KeyError if there is none."""
        return {field.name: field for field in self.fields}[name]

    @cached_property
    def fields_version(self) -> str:
        """Twelve hex digits that identify what decoding yields.

        They change with the fields' names and types, and with the choice of the id and time fields.
        """
        fields = sorted((field.name, field.type) for field in self.fields)
        return _fingerprint([self.id_field, self.time_field, fields])


@dataclass(frozen=True)
class Dimension:
    """A column to group by."""

    name: str
    expression: str  # a Spark SQL expression over one event
    type: str  # the expression's Spark type

    @property
    def column(self) -> Column:
        """The dimension's column in the metric's relation."""
        return Column(self.name, pg_type(self.type))

    def __str__(self) -> str:
        return f"{self.name} {self.type}" + (f" = {self.expression}" if self.expression != self.name else "")


# The parts of a metric's definition that come from the catalogue and the kind of event, not from the metric
# itself, as (name, value) pairs; see `basis`.
Basis = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Accuracy:
    """The relative errors of an approximate number at which its check warns or fails. 0.01 means 1 %."""

    warn: float = 0.01  # the check warns from this error on
    fail: float = 0.05  # the check fails from this error on


@dataclass(frozen=True)
class Metric:
    """A measure over one kind of event, with an optional filter and dimensions to group by."""

    name: str
    kind: str  # the name of the kind of event
    measure: Measure
    dimensions: tuple[Dimension, ...] = ()
    filter: str | None = None  # a Spark SQL condition; events where it is not true are left out
    description: str = ""
    owner: str | None = None  # team:NAME or an e-mail address
    basis: Basis = ()  # what else decides the number: time zone, topics, types of the fields used
    accuracy: Accuracy = Accuracy()
    max_groups: int = 100_000  # in a window of the finest grain; with more the metric is left out

    @property
    def value_columns(self) -> tuple[Column, ...]:
        """The columns that people read."""
        return self.measure.values

    @property
    def expressions(self) -> tuple[str, ...]:
        """All expressions over one event: the filter, the dimensions and the measure's input."""
        written = (self.filter, *(dimension.expression for dimension in self.dimensions), self.measure.input)
        return tuple(expression for expression in written if expression)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The relation's columns after `grain` and `window_start`: dimensions, events, overflowed, state,
        values."""
        return (
            *(dimension.column for dimension in self.dimensions),
            Column("events", "bigint"),
            Column("overflowed", "bigint"),
            *(Column(state.name, state.pg_type) for state in self.measure.states),
            *self.measure.values,
        )

    @property
    def read_columns(self) -> tuple[Column, ...]:
        """The columns that people read, without the state: dimensions, events, values."""
        return (
            *(dimension.column for dimension in self.dimensions),
            Column("events", "bigint"),
            *self.measure.values,
        )

    @cached_property
    def definition(self) -> dict[str, str]:
        """Everything that decides the metric's number, as text by name.

        Two definitions are the same if and only if these are equal.
        """
        return {
            "events": self.kind,
            "filter": self.filter or "none",
            "dimensions": ", ".join(map(str, self.dimensions)) or "none",
            "measure": str(self.measure),
            **dict(self.basis),
        }

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that identify the definition.

        Description, owner, accuracy and max_groups do not change them.
        """
        return _fingerprint(self.definition)


def basis(timezone: str, kind: EventKind, used: Collection[str]) -> Basis:
    """The parts of a metric's definition that the catalogue and the kind of event give.

    `used` holds the names of the fields in the metric's expressions. The id and time fields are always
    included, because every metric depends on them.
    """
    fields = {field.name: field.type for field in kind.fields}
    return (
        ("time zone", timezone),
        ("topics", ", ".join(sorted(kind.topics))),
        ("clusters", ", ".join(sorted(kind.clusters)) or "all"),
        ("id", kind.id_field),
        ("time", kind.time_field),
        ("fields", ", ".join(f"{n} {fields[n]}" for n in sorted({kind.id_field, kind.time_field, *used}))),
    )


@dataclass(frozen=True)
class Catalog:
    """Everything that a catalogue file defines."""

    kinds: tuple[EventKind, ...]
    metrics: tuple[Metric, ...]
    timezone: str  # an IANA name; days and weeks begin at midnight in this zone
    start: date  # the first day that has windows
    retention: dict[Grain, timedelta]  # how long windows of each grain are kept
    future_bound: timedelta  # how far an event time may lie ahead of the reader's clock
    freshness: timedelta  # how old the newest minute may be before the streaming layer counts as late
    revisions_kept: timedelta = timedelta(days=2)  # how long a replaced number can still be read

    @cached_property
    def calendar(self) -> Calendar:
        """The calendar that cuts time into windows in the catalogue's time zone."""
        return Calendar(self.timezone, self.start)

    @cached_property
    def first_instant(self) -> datetime:
        """The beginning of the day `start`. Events before it are rejected."""
        noon = datetime(self.start.year, self.start.month, self.start.day, 12, tzinfo=self.calendar.zone)
        return self.calendar.window(Grain.DAY, noon).start

    def kept_from(self, grain: Grain, now: datetime) -> datetime:
        """The instant from which on the store keeps windows of `grain`.

        It is rounded down to the start of a window of the next coarser grain, so that all parts of such a
        window are kept or deleted together.
        """
        oldest = now - self.retention[grain]
        coarser = parent_grain(grain)
        return self.calendar.window(coarser, oldest).start if coarser else oldest

    def kind(self, name: str) -> EventKind:
        """The kind of event of that name. Raises KeyError if there is none."""
        return {kind.name: kind for kind in self.kinds}[name]

    def metric(self, name: str) -> Metric:
        """The metric of that name. Raises KeyError if there is none."""
        return {metric.name: metric for metric in self.metrics}[name]

    def metrics_of(self, kind: EventKind) -> tuple[Metric, ...]:
        """The metrics over one kind of event."""
        return tuple(metric for metric in self.metrics if metric.kind == kind.name)


def _fingerprint(definition: object) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:12]
