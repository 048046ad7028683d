"""Writes sent records, with their values or why they are malformed, into a Parquet file per kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from metrics_platform_tests.simulation.traffic import Record
from metrics_platform_tests.simulation.world import Kind, World

_INSTANT = pa.timestamp("us", "UTC")
_OWN = pa.schema(
    [
        ("_cluster", pa.string()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_arrival", _INSTANT),
        ("_kafka_time", _INSTANT),
        ("_value", pa.binary()),
        ("_id", pa.string()),
        ("_time", _INSTANT),
        ("_reason", pa.string()),
    ]
)


def write_sent_records(world: World, records: Sequence[Record], folder: Path) -> None:
    """Write sent-KIND.parquet for each kind."""
    for kind in world.kinds:
        of_kind = [record for record in records if record.kind == kind.name]
        pq.write_table(_table(kind, of_kind), folder / f"sent-{kind.name}.parquet")


def _table(kind: Kind, records: Sequence[Record]) -> pa.Table:
    own = [
        (
            record.cluster, record.topic, record.partition, record.offset, record.arrival, record.kafka_time,
            record.value, record.event_id, record.event_time, record.reason,
        )
        for record in records
    ]  # fmt: skip
    columns = [pa.array([row[place] for row in own], field.type) for place, field in enumerate(_OWN)]
    columns += [
        pa.array([record.values.get(rule.name) for record in records], rule.arrow) for rule in kind.fields
    ]
    # The event time is also stored under the field's own name, because expressions use it.
    columns.append(pa.array([record.event_time for record in records], _INSTANT))
    return pa.table(columns, [*_OWN.names, *(rule.name for rule in kind.fields), kind.time_field])
