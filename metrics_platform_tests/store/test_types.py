"""Dimensions of every type keep their values through COPY and through merging in SQL and as sketches."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from metrics_platform.catalog.measures import Count, Distinct, ExactDistinct, Measure
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import NOW, catalog, window
from metrics_platform_tests.support.sketches import sketch_of

COLUMNS: dict[str, tuple[str, pa.DataType, list[Any]]] = {
    "word": ("string", pa.string(), ["", "é", "NULL", None]),
    "whole": ("bigint", pa.int64(), [-(2**63), 2**63 - 1, 0, None]),
    "real": ("double", pa.float64(), [0.1, -1e300, float("inf"), None]),
    "flag": ("boolean", pa.bool_(), [True, False, True, None]),
    "day": ("date", pa.date32(), [date(1, 1, 1), date(2026, 3, 29), date(9999, 12, 31), None]),
    "instant": (
        "timestamp",
        pa.timestamp("us", "UTC"),
        [datetime(1900, 1, 1, tzinfo=UTC), NOW, datetime(2026, 10, 25, 0, 30, 0, 1, tzinfo=UTC), None],
    ),
    "money": (
        "decimal(20,4)",
        pa.decimal128(20, 4),
        [Decimal("-0.0001"), Decimal("9999999999999999.9999"), Decimal("0.0000"), None],
    ),
}


@pytest.mark.parametrize(
    "measure", [Count(), Distinct("visitor", "string"), ExactDistinct("visitor", "string")]
)
def test_dimension_values_of_every_type_are_stored_unchanged(conn: Connection, measure: Measure) -> None:
    dimensions = tuple(Dimension(name, name, kind) for name, (kind, _, _) in COLUMNS.items())
    typed = catalog(Metric("typed", "visits", measure, dimensions))
    migrate(conn, typed, NOW)
    minute = window(typed, "minute", "2026-03-02T10:15")
    columns = {
        "grain": pa.array(["minute"] * 4),
        "window_start": pa.array([minute.start] * 4, pa.timestamp("us", "UTC")),
        **{name: pa.array(values, kind) for name, (_, kind, values) in COLUMNS.items()},
        "events": pa.array([1] * 4, pa.int64()),
        "overflowed": pa.nulls(4, pa.int64()),
        **{state.name: pa.array([sketch_of(measure, ["ann"])] * 4, pa.binary()) for state in measure.states},
    }
    commit(conn, typed, Commit(Source.STREAM, 1, "run", NOW, (minute,), {"typed": pa.table(columns)}))
    wanted = set(zip(*(values for _, _, values in COLUMNS.values()), strict=True))
    for grain in ("minute", "hour", "day", "week"):
        rows = conn.execute(
            "SELECT word, whole, real, flag, day, instant, money, value FROM metrics.typed WHERE grain = %s",
            (grain,),
        ).fetchall()
        assert {row[:-1] for row in rows} == wanted, grain
        assert [row[-1] for row in rows] == [1, 1, 1, 1]
