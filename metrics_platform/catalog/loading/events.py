"""Reads the `events` part of a catalogue: the topics of each kind of event and the fields of its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from metrics_platform.catalog.loading.nodes import Section, Value
from metrics_platform.catalog.loading.problems import Mistake, Report, suggestion
from metrics_platform.catalog.loading.readers import check_name, read_flag
from metrics_platform.catalog.loading.types import field_type
from metrics_platform.catalog.model import EPOCH_UNITS, EventKind, Field

_KEYS = {
    "topics": "topics: [web.orders]",
    "clusters": "clusters: [local]",
    "id": "id: event_id",
    "time": "time: event_time",
    "fields": "fields: {event_id: string, event_time: epoch_millis}",
}
_REQUIRED = frozenset({"topics", "id", "time", "fields"})
_FIELD_KEYS = {"type": "type: string", "required": "required: true", "bad": "bad: null"}
_TIME_TYPES = ("timestamp", *EPOCH_UNITS)

_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)
# Kafka's own rule for topics.
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


@dataclass(frozen=True)
class KindDraft:
    """A kind of event as far as it could be read."""

    kind: EventKind | None  # None after a mistake in the topics, the id or the time
    fields: Mapping[str, Field | None]  # by name; None where the field's definition is a mistake

    @property
    def column_types(self) -> dict[str, str | None]:
        """The Spark type of each field's column; None where the field's definition is a mistake."""
        return {name: field and field.column_type for name, field in self.fields.items()}


def read_kinds(report: Report, value: Value) -> dict[str, KindDraft]:
    """Read all kinds of events, by name. Mistakes go to the report."""
    entries = value.entries(report, "events: {orders: {topics: [web.orders], ...}}")
    drafts: dict[str, KindDraft] = {}
    topics: dict[str, str] = {}
    for name, entry in entries.items():
        report.attempt(check_name, entry, "kind of event")
        draft = report.attempt(_read_kind, report, entry, topics)
        drafts[name] = draft or KindDraft(None, {})
    return drafts


def _read_kind(report: Report, value: Value, kinds_by_topic: dict[str, str]) -> KindDraft:
    section = value.section(report, _KEYS, _REQUIRED)
    topics = section.read("topics", partial(_read_topics, value.label, kinds_by_topic))
    clusters = section.read("clusters", _read_clusters)
    fields = section.read("fields", partial(_read_fields, report)) or {}
    id_field = section.read("id", partial(_read_reference, fields)) if fields else None
    time_field = section.read("time", partial(_read_time, fields)) if fields else None
    if topics is None or id_field is None or time_field is None:
        return KindDraft(None, fields)
    for name in (id_field, time_field):
        report.attempt(_check_not_spared, value, fields[name])
    fields = {name: field and _with_required(field, {id_field, time_field}) for name, field in fields.items()}
    valid = tuple(field for field in fields.values() if field)
    return KindDraft(EventKind(value.label, topics, id_field, time_field, valid, clusters or ()), fields)


def _with_required(field: Field, always: set[str]) -> Field:
    return replace(field, required=field.required or field.name in always)


def _check_not_spared(value: Value, field: Field | None) -> None:
    if field and field.null_if_bad:
        raise value.mistake(f"no event can do without its id and time; remove bad: null from '{field.name}'")


def _read_topics(kind: str, kinds_by_topic: dict[str, str], value: Value) -> tuple[str, ...]:
    """The topics of a kind.

    `kinds_by_topic` holds the topics of all kinds read so far; these are added to it.
    """
    topics = _read_names(value, _KEYS["topics"])
    for item, topic in topics:
        if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            raise item.mistake(f"'{topic}' is no Kafka topic; write letters, digits, '.', '_' and '-' only")
        if topic in kinds_by_topic:
            other = kinds_by_topic[topic]
            where = "twice in this list" if other == kind else f"in the kind '{other}' too"
            raise item.mistake(
                f"topic '{topic}' is {where}; each topic carries one kind of event, remove it here"
            )
        kinds_by_topic[topic] = kind
    return tuple(topic for _, topic in topics)


def _read_clusters(value: Value) -> tuple[str, ...]:
    return tuple(name for _, name in _read_names(value, _KEYS["clusters"]))


def _read_names(value: Value, example: str) -> list[tuple[Value, str]]:
    return [(item, item.text(example)) for item in value.items(example)]


def _read_fields(report: Report, value: Value) -> dict[str, Field | None]:
    entries = value.entries(report, _KEYS["fields"])
    seen: dict[str, str] = {}
    for entry in entries.values():
        report.attempt(_check_field_name, entry, seen)
    return {name: report.attempt(_read_field, report, entry) for name, entry in entries.items()}


def _check_field_name(value: Value, seen: dict[str, str]) -> None:
    name = value.label
    if name.startswith("_"):
        raise Mistake(
            value.key_line, f"field '{name}': names with a leading _ are the platform's own; rename it"
        )
    if name.lower() == "event_hour":
        raise Mistake(
            value.key_line, f"field '{name}': the raw store has that column itself; rename the field"
        )
    if not _FIELD_NAME.fullmatch(name):
        raise Mistake(
            value.key_line,
            f"'{name}' cannot name a field: write letters, digits and _, starting with a letter",
        )
    other = seen.setdefault(name.lower(), name)
    if other != name:
        raise Mistake(
            value.key_line,
            f"fields '{other}' and '{name}' differ only in case, which SQL ignores; remove one",
        )


def _read_field(report: Report, value: Value) -> Field:
    if not value.is_mapping:
        return Field(value.label, _read_type(value))
    section = value.section(report, _FIELD_KEYS, frozenset({"type"}))
    required = section.read("required", read_flag) or False
    null_if_bad = section.read("bad", partial(_read_bad, required)) or False
    return Field(value.label, _present_type(value, section), required, null_if_bad)


def _present_type(value: Value, section: Section) -> str:
    if "type" not in section.values:
        return "string"  # the missing key is reported; with some type the expressions can still be checked
    type_value = section.values["type"]
    return _read_type(Value(type_value.node, f"field '{value.label}'", type_value.key_line))


def _read_type(value: Value) -> str:
    try:
        return field_type(value.text(f"{value.label}: string"))
    except ValueError as error:
        raise value.mistake(str(error)) from None


def _read_bad(required: bool, value: Value) -> bool:
    if not value.is_empty:
        raise value.mistake("a bad value can only be read as null; write bad: null")
    if required:
        raise value.mistake("a required field cannot be null; remove this or required: true")
    return True


def _read_reference(fields: Mapping[str, Field | None], value: Value) -> str:
    name = value.text(_KEYS[value.label])
    if name not in fields:
        raise value.mistake(f"field '{name}' is not declared under `fields`; {suggestion(name, fields)}")
    return name


def _read_time(fields: Mapping[str, Field | None], value: Value) -> str:
    name = _read_reference(fields, value)
    field = fields[name]
    if field and field.type not in _TIME_TYPES:
        raise value.mistake(
            f"field '{name}' is {field.type}, no time; declare it as epoch_millis or timestamp"
        )
    return name
