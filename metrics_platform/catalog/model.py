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


def pg_type(spark_type: str) -> str:
    """The PostgreSQL type for a Spark type; decimals become numeric."""
    return "numeric" if spark_type.startswith("decimal") else PG_TYPES[spark_type]


@dataclass(frozen=True)
class Field:
    """A typed field of an event's JSON. `type` is a Spark type, or `epoch_millis` for a time given as
    milliseconds since 1970 (it reads as a timestamp)."""

    name: str
    type: str
    required: bool = False

    @property
    def column_type(self) -> str:
        """The Spark type of the decoded column."""
        return "timestamp" if self.type == "epoch_millis" else self.type


@dataclass(frozen=True)
class EventKind:
    """One kind of event: where it is found on Kafka and what its JSON holds.

    `clusters` names the Kafka clusters that carry the topics; empty means all of them.
    `id_field` and `time_field` name two of `fields`; both are required in every event.
    """

    name: str
    topics: tuple[str, ...]
    id_field: str
    time_field: str
    fields: tuple[Field, ...]
    clusters: tuple[str, ...] = ()

    def field(self, name: str) -> Field:
        """The field of that name; KeyError if there is none."""
        return {field.name: field for field in self.fields}[name]

    @cached_property
    def fields_version(self) -> str:
        """Twelve hex digits that change with what decoding yields: the fields' names and types, and which of
        them are the id and the time."""
        fields = sorted((field.name, field.type) for field in self.fields)
        return _fingerprint([self.id_field, self.time_field, fields])


@dataclass(frozen=True)
class Dimension:
    """A column to group by: a Spark SQL expression over an event, and its Spark type."""

    name: str
    expression: str
    type: str

    @property
    def column(self) -> Column:
        """The dimension's column in the metric's relation."""
        return Column(self.name, pg_type(self.type))

    def __str__(self) -> str:
        return f"{self.name} {self.type}" + (f" = {self.expression}" if self.expression != self.name else "")


# What a metric's number rests on beside the metric itself, as (what, value); see `basis`.
Basis = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Accuracy:
    """From which error on an approximate number is worth a warning, and from which it fails its check.

    Shares: 0.01 is 1 %.
    """

    warn: float = 0.01
    fail: float = 0.05


@dataclass(frozen=True)
class Metric:
    """A filter, dimensions and a measure over one kind of event, on the basis that the catalogue gives."""

    name: str
    kind: str
    measure: Measure
    dimensions: tuple[Dimension, ...] = ()
    filter: str | None = None
    description: str = ""
    owner: str | None = None
    basis: Basis = ()
    accuracy: Accuracy = Accuracy()

    @property
    def value_columns(self) -> tuple[Column, ...]:
        """The columns that people read."""
        return self.measure.values

    @property
    def columns(self) -> tuple[Column, ...]:
        """The relation's own columns, after `grain` and `window_start`: dimensions,
        events, state, values."""
        return (
            *(dimension.column for dimension in self.dimensions),
            Column("events", "bigint"),
            *(Column(state.name, state.pg_type) for state in self.measure.states),
            *self.measure.values,
        )

    @property
    def read_columns(self) -> tuple[Column, ...]:
        """The columns that people read: dimensions, events, values; no state."""
        return (
            *(dimension.column for dimension in self.dimensions),
            Column("events", "bigint"),
            *self.measure.values,
        )

    @cached_property
    def definition(self) -> dict[str, str]:
        """All that decides the number, in words; two definitions differ exactly where these do."""
        return {
            "events": self.kind,
            "filter": self.filter or "none",
            "dimensions": ", ".join(map(str, self.dimensions)) or "none",
            "measure": str(self.measure),
            **dict(self.basis),
        }

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change with the number's definition, not with what is said of it."""
        return _fingerprint(self.definition)


def basis(timezone: str, kind: EventKind, used: Collection[str]) -> Basis:
    """How time is cut, where a metric's events come from, and how the fields that it uses are read.

    `used` are the fields of its expressions; the id and the time count for every metric.
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
    """Everything a catalogue file defines.

    `retention` says how long windows of a grain are kept, `start` the first day that has partitions,
    `future_bound` how far ahead of the reader's clock an event time may lie, `freshness` how old the
    newest minute may be before the streaming layer counts as late, and `revisions_kept` for how long a
    number can be read as it was before it was replaced.
    """

    kinds: tuple[EventKind, ...]
    metrics: tuple[Metric, ...]
    timezone: str
    start: date
    retention: dict[Grain, timedelta]
    future_bound: timedelta
    freshness: timedelta
    revisions_kept: timedelta = timedelta(days=2)

    @cached_property
    def calendar(self) -> Calendar:
        """Cuts time into windows for the catalogue's time zone."""
        return Calendar(self.timezone)

    @cached_property
    def first_instant(self) -> datetime:
        """The beginning of the first day: what happened before it is not counted."""
        noon = datetime(self.start.year, self.start.month, self.start.day, 12, tzinfo=self.calendar.zone)
        return self.calendar.window(Grain.DAY, noon).start

    def kept_from(self, grain: Grain, now: datetime) -> datetime:
        """From when on the store keeps windows of `grain`; a window's parts are kept or deleted together."""
        oldest = now - self.retention[grain]
        around = parent_grain(grain)
        return self.calendar.window(around, oldest).start if around else oldest

    def kind(self, name: str) -> EventKind:
        """The kind of that name; KeyError if there is none."""
        return {kind.name: kind for kind in self.kinds}[name]

    def metric(self, name: str) -> Metric:
        """The metric of that name; KeyError if there is none."""
        return {metric.name: metric for metric in self.metrics}[name]

    def metrics_of(self, kind: EventKind) -> tuple[Metric, ...]:
        """The metrics over the events of a kind."""
        return tuple(metric for metric in self.metrics if metric.kind == kind.name)


def _fingerprint(definition: object) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:12]
