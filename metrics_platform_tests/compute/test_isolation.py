"""A metric that cannot be computed is left out, and all others are as they would be without it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from py4j.protocol import Py4JError
from pyspark.errors import IllegalArgumentException, PySparkException

from metrics_platform.catalog.measures import Count, Distinct, Sum
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.catalog.windows import Calendar, Grain
from metrics_platform.compute import groups, isolation, totals
from metrics_platform.compute.isolation import compute_isolated, failure_of_expression
from metrics_platform.compute.totals import Computed
from metrics_platform_tests.compute.oracle import Event, frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SPARK_ERRORS = (Py4JError, PySparkException)
CALENDAR = Calendar("Europe/Berlin")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WINDOWS = [CALENDAR.window(Grain.MINUTE, NOON)]
PAGE = Dimension("page", "page", "string")
DECODED = Dimension("page", "url_decode(page)", "string")

VISITS = Metric("visits", "visits", Count(), (PAGE,))
SUMMED = Metric("summed", "visits", Sum("n", "int"))
BROKEN = Metric("broken", "visits", Count(), (DECODED,))
FILTERED = Metric("filtered", "visits", Count(), filter="parse_json(page) is not null")
INPUT = Metric("input", "visits", Distinct("timestamp_seconds(big)", "timestamp"))
REFUSED = Metric("refused", "visits", Count(), filter="transform(page, y -> y)[0]")
SALES = Metric("sales", "sales", Count(), (PAGE,))

# Of one event each; the first value of its field is one that the expression cannot handle.
FAILING = [
    "url_decode(page)", "to_binary(page, 'hex')", "to_number(page, '99')", "element_at(array(1, 2), n)",
    "parse_json(page)", 'variant_get(parse_json(\'["x"]\'), "$[0]", "int")', "unbase64(right(page, 1))",
    "aes_decrypt(cast(page as binary), '0000111122223333')", "raise_error(page)", "assert_true(n > 5)",
    "timestamp_seconds(big)", "timestamp_millis(big)", "add_months(d, 2147483647)",
    "regexp_extract(page, concat('(', page), 1)", "page rlike concat('(', page)",
    "from_utc_timestamp(t, page)", "str_to_map('a:1,a:2')['a']", "slice(array(1), n, 1)[0]",
    "xpath_int(page, 'a/b')", "getbit(n, 99)", "hll_sketch_estimate(cast(page as binary))",
    "format_string(page, 1)", "encode(page, page)", "split_part(page, 'a', n)",
    "map_from_arrays(array(n, n), array(1, 1))[0]",
    "validate_utf8(cast(unhex('FF') as string))", "transform(page, y -> y)[0]",
]  # fmt: skip


def _failure(found: DataFrame, expression: str) -> str | None:
    """Why the events cannot be read by the expression; None if they can, or something else is at fault."""
    try:
        found.where(f"{expression} is not null or n > 7").where("_reason is null").toArrow()
    except _SPARK_ERRORS as error:
        return failure_of_expression(error)
    return None


def events(spark: SparkSession, *pages: str) -> DataFrame:
    found = [Event(NOON, page=page, n=0, big=2**62, t=NOON) for page in pages]
    return frame(spark, [*found, Event(NOON, reason="no JSON object")])


def computed(spark: SparkSession, metrics: Sequence[Metric], **options: object) -> Computed:
    frames = {"visits": events(spark, "%zz", "a"), "sales": events(spark, "b")}
    return compute_isolated(frames, metrics, WINDOWS, CALENDAR, **options)  # pyright: ignore[reportArgumentType]


def counted(done: Computed, metric: Metric) -> dict[str | None, int]:
    return {row.get("page"): row["events"] for row in done.totals[metric.name].to_pylist()}


def test_the_culprits_alone_are_left_out_each_with_its_reason(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[set[str]] = []

    def compute(frames: dict[str, DataFrame], metrics: Sequence[Metric], *rest: object) -> Computed:
        passes.append({metric.name for metric in metrics})
        return totals.compute(frames, metrics, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(isolation, "compute", compute)
    done = computed(spark, [VISITS, BROKEN, SUMMED, SALES, FILTERED, INPUT, REFUSED])
    assert set(done.left_out) == {"broken", "filtered", "input", "refused"}
    assert done.left_out["broken"].startswith("[CANNOT_DECODE_URL]")
    assert "\n" not in "".join(done.left_out.values())
    assert counted(done, VISITS) == {"%zz": 1, "a": 1}
    assert counted(done, SALES) == {"b": 1}
    assert done.totals["summed"].num_rows == 1
    assert done.rejected == {("visits", "no JSON object"): 1, ("sales", "no JSON object"): 1}
    # All, each kind, then of visits those that cannot fail by a value before the others.
    assert passes[1:4] == [
        {"visits", "broken", "summed", "filtered", "input", "refused"},
        {"visits", "summed", "refused"},
        {"visits"},
    ]


def test_suspects_are_computed_apart(spark: SparkSession) -> None:
    times: list[None] = []
    done = computed(spark, [VISITS, BROKEN, SALES], suspects={"broken"}, between=lambda: times.append(None))
    assert set(done.left_out) == {"broken"}
    assert set(done.totals) == {"visits", "sales"}
    assert len(times) == 2  # the others together, and the suspect


def test_events_are_counted_though_no_metric_of_their_kind_can_be_computed(spark: SparkSession) -> None:
    done = computed(spark, [BROKEN])
    assert set(done.left_out) == {"broken"}
    assert done.rejected == {("visits", "no JSON object"): 1, ("sales", "no JSON object"): 1}


@pytest.mark.parametrize("limit", [100, 3])
def test_a_metric_with_too_many_groups_is_left_out_wherever_they_are_counted(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    # With 3, a task reaches the bound, and the executors count.
    monkeypatch.setattr(groups, "_MOST_OF_A_TASK", limit)
    pages = events(spark, *(f"page {number}" for number in range(5)))
    bounded = Metric("bounded", "visits", Count(), (PAGE,), max_groups=4)
    wide = Metric("wide", "visits", Count(), (PAGE,), max_groups=5)
    done = compute_isolated({"visits": pages}, [bounded, wide, SUMMED], WINDOWS, CALENDAR)
    assert done.left_out == {
        "bounded": "5 groups in minute 2026-03-02T12:00Z, more than its max_groups of 4; "
        "group by fewer values, or raise max_groups"
    }
    assert len(counted(done, wide)) == 5
    assert done.totals["summed"].num_rows == 1
    assert done.rejected == {("visits", "no JSON object"): 1}


def test_the_error_of_an_expression_is_told_from_others(spark: SparkSession) -> None:
    found = events(spark, "%zz a")
    reasons = {expression: _failure(found, expression) for expression in FAILING}
    assert [expression for expression, reason in reasons.items() if not reason] == []


def test_what_is_no_expressions_fault_is_raised(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(_SPARK_ERRORS) as failed:
        spark.sparkContext.parallelize([1]).map(lambda _: 1 / 0).toDF("n int").toArrow()
    assert failure_of_expression(failed.value) is None

    def lost(*_: object) -> Computed:
        raise failed.value

    monkeypatch.setattr(isolation, "compute", lost)
    with pytest.raises(_SPARK_ERRORS):
        computed(spark, [VISITS])


def test_what_makes_every_pass_fail_is_raised(spark: SparkSession) -> None:
    broken = events(spark, "%zz").selectExpr("*", "url_decode(page) as decoded").where("decoded is not null")
    with pytest.raises(IllegalArgumentException, match="CANNOT_DECODE_URL"):
        compute_isolated({"visits": broken}, [VISITS], WINDOWS, CALENDAR)
