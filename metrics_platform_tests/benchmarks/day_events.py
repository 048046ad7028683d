"""A synthetic day of the web shop as Kafka records, computed by Spark from each record's number.

The same seed gives the same day. The records are in the order of their event times, which are spread evenly
over the day. Every 200th record repeats an earlier one of the last half minute, as a retrying producer would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Window
from metrics_platform.local.traffic.shop import COUNTRIES, DEVICES, ORDERS, PAGES, TYPES, VISITORS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DUPLICATE_EVERY = 200
REPEATED_WITHIN_SECONDS = 30
PARTITIONS = 4


def day_records(
    spark: SparkSession, kind: EventKind, day: Window, total: int, first: int, after: int, seed: int
) -> DataFrame:
    """The records [first, after) of the day's `total`, with the columns of source.RECORD_SCHEMA."""
    fields = ", ".join(
        f"'{name}', {expression}" for name, expression in _fields(kind, day, total, seed).items()
    )
    return (
        spark.range(first, after, numPartitions=spark.sparkContext.defaultParallelism)
        .selectExpr("id", f"{_original(day, total, seed)} as n")
        .selectExpr(
            f"cast(to_json(named_struct({fields})) as binary) as _value",
            "'local' as _cluster",
            f"'{kind.topics[0]}' as _topic",
            f"cast(id % {PARTITIONS} as int) as _partition",
            f"id div {PARTITIONS} as _offset",
            f"timestamp_millis({_millis('id', day, total)}) as _kafka_time",
        )
    )


def _original(day: Window, total: int, seed: int) -> str:
    """SQL for the number of the record that record `id` repeats, or its own number if it repeats none."""
    per_second = total / (day.end - day.start).total_seconds()
    reach = max(1, int(per_second * REPEATED_WITHIN_SECONDS / DUPLICATE_EVERY))
    back = f"least({_hash('id', seed, 'again')} % {reach}, id div {DUPLICATE_EVERY})"
    last = DUPLICATE_EVERY - 1
    return f"if(id % {DUPLICATE_EVERY} = {last}, id - 1 - {DUPLICATE_EVERY} * {back}, id)"


def _fields(kind: EventKind, day: Window, total: int, seed: int) -> dict[str, str]:
    """Field -> SQL over the record's number `n`. The values have the frequencies of the demo's web shop."""
    fields = {
        "event_id": f"lower(concat(lpad(hex({_hash('n', seed, kind.name)}), 16, '0'), lpad(hex(n), 8, '0')))",
        "event_time": _millis("n", day, total),
        "visitor_id": f"concat('v', {_hash('n', seed, 'visitor')} % {VISITORS})",
        "country": _choice(COUNTRIES, seed, "country"),
        "device": _choice(DEVICES, seed, "device"),
    }
    if kind.name == ORDERS:
        amount, checkout = _normal(seed, "amount"), _normal(seed, "checkout")
        return fields | {
            "amount": f"round(exp(3.4 + 0.8 * {amount}) + 1, 2)",
            "checkout_ms": f"round(exp(6.0 + 0.5 * {checkout}), 3)",
        }
    # The rank is distributed so that page k gets about 1/k of the visits of the first page.
    rank = f"cast(exp({_uniform(seed, 'page')} * ln({len(PAGES) + 1})) as int)"
    return fields | {"type": _choice(TYPES, seed, "type"), "page": f"concat('/product/', {rank})"}


def _millis(number: str, day: Window, total: int) -> str:
    length = int((day.end - day.start).total_seconds() * 1000)
    return f"({int(day.start.timestamp() * 1000)} + {number} * {length} div {total})"


def _hash(number: str, seed: int, purpose: str) -> str:
    """SQL for a pseudo-random number from 0 to 2**62 - 1."""
    return f"shiftrightunsigned(xxhash64({number}, {seed}L, '{purpose}'), 2)"


def _uniform(seed: int, purpose: str) -> str:
    """SQL for a pseudo-random number with a uniform distribution over [0, 1)."""
    return f"({_hash('n', seed, purpose)} % 1000000 / 1e6D)"


def _normal(seed: int, purpose: str) -> str:
    """SQL for a nearly normal number, mean 0 and deviation 1: the sum of three uniform numbers."""
    total = " + ".join(_uniform(seed, f"{purpose}{part}") for part in range(3))
    return f"(({total} - 1.5D) * 2D)"


def _choice(weights: dict[str, float], seed: int, purpose: str) -> str:
    urn = [name for name, weight in weights.items() for _ in range(round(weight * 100))]
    names = ", ".join(f"'{name}'" for name in urn)
    return f"element_at(array({names}), cast(1 + {_hash('n', seed, purpose)} % {len(urn)} as int))"
