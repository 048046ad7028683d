"""A cluster that cannot be reached for a while, a topic that is missing: left out, and made up for later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from dagster import (
    AssetKey,
    Definitions,
    ExecuteInProcessResult,
    ResourceDefinition,
    build_schedule_context,
)

from metrics_platform.batch import execute
from metrics_platform.batch.execute import Batch
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.ingestion.ingest import NotIngested, ingest
from metrics_platform.local.ports import free_ports
from metrics_platform.local.traffic.shop import INTERACTIONS, ORDERS, Record
from metrics_platform.orchestration import assets
from metrics_platform.orchestration.assets import batch_assets, raw_assets
from metrics_platform.orchestration.jobs import batch_jobs, batch_schedules
from metrics_platform.orchestration.resources import BATCH_SPARK
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label, Source
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.owed import gaps, outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import changed_hours
from metrics_platform.stream import iteration
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import Shift
from metrics_platform_tests.support import oracle
from metrics_platform_tests.support.clock import ManualClock
from metrics_platform_tests.support.installation import Broker
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.topics import delete_topic, new_topic
from metrics_platform_tests.support.traffic import Feed, produce, send, traffic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NINE = datetime(2026, 3, 30, 9, tzinfo=UTC)
GRACE = timedelta(seconds=1.5)
CLICKS = "clicks_per_page"


def send_to_each(
    platform: Platform, start: datetime, end: datetime, rates: tuple[float, float] = (4, 4)
) -> list[Record]:
    """What both clusters got, each its own events."""
    return [
        record
        for number, (cluster, rate) in enumerate(zip(platform.clusters, rates, strict=True))
        for record in send(
            replace(platform, clusters=(cluster,)), start, end, rate, seed=start.minute * 10 + number
        )
    ]


@contextmanager
def shift_at_work(
    platform: Platform, spark: SparkSession, clock: ManualClock, done: list[Iteration], said: list[str]
) -> Iterator[Shift]:
    shift = Shift(platform, spark, "shift", clock, done.append, log_to(said.append))
    try:
        shift.take_over()
        yield shift
    finally:
        shift.close()


def close_of(number: int) -> datetime:
    """When the number-th minute after nine is over and its grace, too."""
    return NINE + number * MINUTE + MINUTE + GRACE


def label(conn: Connection, grain: Grain, start: datetime, platform: Platform) -> Label:
    window = platform.catalog.calendar.window(grain, start)
    return ledger.labels(conn, [CLICKS], [window])[CLICKS, window]


def clicks(records: list[Record], minute: datetime, until: datetime) -> int:
    """The clicks of a minute that Kafka had by then."""
    there = [record for record in oracle.accepted(records) if record.at < until.timestamp()]
    groups = oracle.groups(there, CLICKS, Grain.MINUTE).items()
    return sum(len(events) for (start, _), events in groups if start == minute)


def test_a_cluster_falls_silent_for_two_minutes_and_comes_back(
    pair: Platform, second_broker: Broker, conn: Connection, spark: SparkSession
) -> None:
    near = traffic(pair, NINE, NINE + 8 * MINUTE, 3, seed=1)
    far = traffic(pair, NINE, NINE + 8 * MINUTE, 6, seed=2)
    feeds = [
        Feed(replace(pair, clusters=(cluster,)), records)
        for cluster, records in zip(pair.clusters, (near, far), strict=True)
    ]

    def close(number: int) -> None:
        clock.wait_until(close_of(number))
        for feed in feeds:
            feed.send_until(clock.now())

    clock, done, said = ManualClock(close_of(2)), list[Iteration](), list[str]()
    close(2)
    with shift_at_work(pair, spark, clock, done, said) as shift:
        shift.attempt()
        # What the second cluster gets while nothing reaches it is there when it answers again.
        feeds[1].send_until(close_of(4))
        with second_broker.silent():
            for number in (3, 4):
                clock.wait_until(close_of(number))
                feeds[0].send_until(clock.now())
                began = time.monotonic()
                shift.attempt()
                assert time.monotonic() - began < 20
        close(5)
        shift.attempt()  # it is asked again only when this minute is out
        assert said[-1] == "Kafka cluster 'dc2' answers again"
        close(6)
        shift.attempt()

    assert [iteration.missing for iteration in done] == [(), ("dc2",), ("dc2",), ("dc2",), ()]
    assert [len(iteration.fresh) for iteration in done] == [3, 1, 1, 1, 1]
    expected = {  # the minute: by whom it was counted last, and when
        2: (near + far, close_of(2)),  # not once more without the cluster that it had
        3: (near, close_of(4)),
        4: (near, close_of(5)),
        5: (near + far, close_of(6)),  # once more, with the cluster that it lacked
        6: (near + far, close_of(6)),
    }
    for number, (records, until) in expected.items():
        minute = NINE + number * MINUTE
        found = label(conn, Grain.MINUTE, minute, pair)
        assert found.events == clicks(records, minute, until), minute
        assert found.coverage == (0.5 if number in (3, 4) else 1)  # nothing is known of the shares
    assert label(conn, Grain.HOUR, NINE, pair).coverage == pytest.approx(6 / 60)
    [outage] = outages.open_outages(conn)
    assert (outage.cluster, outage.cause) == ("dc2", Cause.UNREACHABLE)
    assert (outage.start, outage.end) == (NINE + 3 * MINUTE, NINE + 6 * MINUTE)
    assert outage.reason.startswith("Kafka cluster 'dc2'")
    assert gaps.open_gaps(conn) == []
    counts = conn.execute(
        "SELECT cluster, counted FROM platform.minute_events WHERE kind = 'interactions' "
        "AND minute_start = ANY(%s) ORDER BY minute_start, cluster",
        ([NINE + 4 * MINUTE, NINE + 5 * MINUTE],),
    ).fetchall()
    assert [cluster for cluster, _ in counts] == ["dc1", "dc1", "dc2"]
    assert all(counted > 0 for _, counted in counts)


def test_a_cluster_falls_silent_between_its_offsets_and_its_records(
    pair: Platform,
    second_broker: Broker,
    conn: Connection,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send_to_each(pair, NINE, NINE + 3 * MINUTE)
    done, said = list[Iteration](), list[str]()
    compute, silence = iteration.compute_minutes, ExitStack()

    def compute_in_silence(*arguments: Any, **options: Any) -> iteration.MinuteTotals:
        monkeypatch.undo()
        silence.enter_context(second_broker.silent())
        return compute(*arguments, **options)

    with shift_at_work(pair, spark, ManualClock(close_of(2)), done, said) as shift, silence:
        monkeypatch.setattr(iteration, "compute_minutes", compute_in_silence)
        shift.attempt()
        assert done == []
        assert said[-1].startswith("iteration failed (1 of 5): Kafka cluster 'dc2'")
        shift.attempt()
    assert [iteration.missing for iteration in done] == [("dc2",)]
    assert label(conn, Grain.MINUTE, NINE, pair).coverage == 0.5


def test_a_cluster_that_is_not_there_at_all_is_left_out(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    [port] = free_ports(1)
    both = replace(platform, clusters=(*platform.clusters, Cluster("gone", f"127.0.0.1:{port}")))
    sent = send(platform, NINE, NINE + 3 * MINUTE, 5, seed=3)
    done: list[Iteration] = []
    with shift_at_work(both, spark, ManualClock(close_of(2)), done, []) as shift:
        shift.attempt()
    [iteration] = done
    assert iteration.missing == ("gone",)
    minute = NINE + 2 * MINUTE
    assert label(conn, Grain.MINUTE, minute, both).events == clicks(sent, minute, close_of(2))


def orders_elsewhere(platform: Platform) -> Platform:
    """The installation with its orders on a cluster that is not there."""
    [port] = free_ports(1)
    interactions, orders = platform.catalog.kinds
    kinds = (replace(orders, clusters=("gone",)), replace(interactions, clusters=("local",)))
    return replace(
        platform,
        clusters=(*platform.clusters, Cluster("gone", f"127.0.0.1:{port}")),
        catalog=replace(platform.catalog, kinds=kinds),
    )


def test_metrics_of_a_cluster_that_is_gone_have_no_minute_and_the_others_do(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    apart = orders_elsewhere(platform)
    send(platform, NINE, NINE + 3 * MINUTE, 5, seed=4)
    done: list[Iteration] = []
    with shift_at_work(apart, spark, ManualClock(close_of(2)), done, []) as shift:
        shift.attempt()
    there = {metric.name for metric in apart.catalog.metrics if metric.kind == INTERACTIONS}
    assert set(done[0].metrics) == set(ledger.newest_minutes(conn)) == there
    assert label(conn, Grain.MINUTE, NINE, apart).coverage == 1


def orders_from(platform: Platform, topic: str) -> Platform:
    """The installation with its orders on another topic, and asked for first."""
    interactions, orders = platform.catalog.kinds
    kinds = (replace(orders, topics=(topic,)), interactions)
    return replace(platform, catalog=replace(platform.catalog, kinds=kinds))


def metrics_of(platform: Platform, kind: str) -> set[str]:
    return {metric.name for metric in platform.catalog.metrics if metric.kind == kind}


def test_a_kind_without_its_topic_has_no_minute_and_the_others_do(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    topic = f"test-{uuid4().hex[:12]}"
    without = orders_from(platform, topic)
    sent = traffic(platform, NINE, NINE + 12 * MINUTE, 3, seed=8)
    feed = Feed(platform, sent)
    clock, done, said = ManualClock(close_of(2)), list[Iteration](), list[str]()
    with shift_at_work(without, spark, clock, done, said) as shift:
        shift.warm_up()
        for number in (2, 3, 8):  # at last after a gap
            clock.wait_until(close_of(number))
            feed.send_until(clock.now())
            shift.attempt()
        [line] = [line for line in said if topic in line]
        assert line.startswith(f"the minute comes without '{ORDERS}': topic '{topic}' does not exist")
        assert {name for one in done for name in one.metrics} == metrics_of(platform, INTERACTIONS)
        assert set(ledger.newest_minutes(conn)) == metrics_of(platform, INTERACTIONS)
        found = label(conn, Grain.MINUTE, NINE + 8 * MINUTE, without)
        assert (found.events, found.coverage) == (clicks(sent, found.window.start, close_of(8)), 1)
        [gap] = gaps.open_gaps(conn)
        assert {one["topic"] for one in gap.details} == set(without.catalog.kind(INTERACTIONS).topics)

        new_topic(without.clusters[0].bootstrap_servers, topic)
        orders = [replace(one, topic=topic) for one in sent if one.kind == ORDERS]
        produce(without, [one for one in orders if one.at >= (NINE + 9 * MINUTE).timestamp()])
        clock.wait_until(close_of(9))
        feed.send_until(clock.now())
        shift.attempt()
        assert said[-1] == f"'{ORDERS}' can be read again"
    assert (
        set(done[-1].metrics)
        == set(ledger.newest_minutes(conn))
        == {m.name for m in platform.catalog.metrics}
    )
    hour = without.catalog.calendar.window(Grain.HOUR, NINE)
    labels = ledger.labels(conn, [m.name for m in platform.catalog.metrics], [hour])
    # Of the orders the stream counted the newest minute and, once more, the one before it.
    expected = {INTERACTIONS: 8, ORDERS: 2}
    assert {name: one.minutes_present for (name, _), one in labels.items()} == {
        metric.name: expected[metric.kind] for metric in platform.catalog.metrics
    }


def test_the_minutes_that_lack_a_kind_are_an_outage_until_they_are_exact(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    topic = new_topic(platform.clusters[0].bootstrap_servers)
    there = orders_from(platform, topic)
    sent = send(there, NINE, NINE + 5 * MINUTE, 3, seed=9)
    clock, done, said = ManualClock(close_of(2)), list[Iteration](), list[str]()
    with shift_at_work(there, spark, clock, done, said) as shift:
        shift.attempt()
        assert outages.open_outages(conn) == []
        before = _minutes_of_orders(conn, there)
        delete_topic(there.clusters[0].bootstrap_servers, topic)
        for number in (3, 4):
            clock.wait_until(close_of(number))
            shift.attempt()
    assert len(done) == 3
    assert _minutes_of_orders(conn, there) == before  # what was counted stays
    [outage] = outages.open_outages(conn)
    assert (outage.cluster, outage.cause) == ("local", Cause.UNREACHABLE)
    assert (outage.start, outage.end) == (NINE + 3 * MINUTE, NINE + 5 * MINUTE)
    assert outage.reason.startswith(f"'{ORDERS}' cannot be read: topic '{topic}' does not exist")

    new_topic(there.clusters[0].bootstrap_servers, topic)
    produce(there, [record for record in sent if record.kind == ORDERS])
    hour = there.catalog.calendar.window(Grain.HOUR, NINE)
    clock.wait_until(hour.end + 3 * MINUTE)
    late = _earlier(there, hour)  # some events came only after their hour
    Batch(there, spark, conn, "hourly", clock, log_to(print)).catch_up([late, hour], there.catalog.metrics)
    for metric in oracle.RULES:
        assert oracle.differences(conn, oracle.deduplicated(sent), metric, Grain.HOUR) == []
    assert outages.open_outages(conn) == []


def _minutes_of_orders(conn: Connection, platform: Platform) -> dict[tuple[str, Window], Label]:
    minutes = list(platform.catalog.calendar.windows(Grain.MINUTE, NINE, NINE + 5 * MINUTE))
    return ledger.labels(conn, sorted(metrics_of(platform, ORDERS)), minutes)


def test_without_any_topic_the_iteration_fails_and_says_which(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kinds = tuple(replace(kind, topics=(f"no-{kind.name}",)) for kind in platform.catalog.kinds)
    nothing = replace(platform, catalog=replace(platform.catalog, kinds=kinds))
    done, said = list[Iteration](), list[str]()
    with shift_at_work(nothing, spark, ManualClock(close_of(2)), done, said) as shift:
        shift.attempt()
    assert done == []
    assert said[-1].startswith("iteration failed (1 of 5): topic 'no-interactions' does not exist")
    assert "topic 'no-orders' does not exist" in said[-1]


def test_a_missing_topic_does_not_hide_what_spark_says(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise RuntimeError("the session is gone")

    monkeypatch.setattr(iteration, "compute_minutes", fail)
    without = orders_from(platform, "nowhere")
    with (
        shift_at_work(without, spark, ManualClock(close_of(2)), [], []) as shift,
        pytest.raises(RuntimeError, match="the session is gone"),
    ):
        shift.attempt()


def test_who_asks_for_every_metric_is_told_that_a_topic_is_missing(platform: Platform) -> None:
    without = orders_from(platform, "nowhere")
    windows = iteration.minutes(NINE, NINE + MINUTE)
    log = KafkaLog(without.clusters)
    try:
        with pytest.raises(KafkaError, match="topic 'nowhere' does not exist"):
            iteration.find_records(without, log, windows, close_of(0))
        others = sorted(metrics_of(without, INTERACTIONS))
        assert set(iteration.find_records(without, log, windows, close_of(0), others)) == {INTERACTIONS}
    finally:
        log.close()


def _positions(platform: Platform, spark: SparkSession) -> list[tuple[str, int, int]]:
    path = platform.raw_store.path(platform.catalog.kinds[0])
    rows = spark.read.format("delta").load(path).select("_cluster", "_partition", "_offset").collect()
    return sorted((row[0], row[1], row[2]) for row in rows)


def _all_once(platform: Platform, spark: SparkSession, sent: list[Record]) -> None:
    positions = _positions(platform, spark)
    expected = sum(record.kind == platform.catalog.kinds[0].name for record in sent)
    assert len(positions) == len(set(positions)) == expected


def test_ingestion_goes_on_without_a_cluster_and_catches_up(
    pair: Platform, second_broker: Broker, conn: Connection, spark: SparkSession
) -> None:
    kind = pair.catalog.kinds[0]
    sent = send_to_each(pair, NINE, NINE + MINUTE)
    clock, said = ManualClock(NINE + MINUTE), list[str]()
    ingest(pair, spark, conn, kind, clock, log_to(said.append))
    _all_once(pair, spark, sent)
    sent += send_to_each(pair, NINE + MINUTE, NINE + 2 * MINUTE)
    clock.advance(3 * MINUTE)
    before = len(_positions(pair, spark))
    with second_broker.silent():
        done = ingest(pair, spark, conn, kind, clock, log_to(said.append))
    assert done.missing == ("dc2",)
    assert {cluster for cluster, *_ in _positions(pair, spark)} == {"dc1", "dc2"}
    assert len(_positions(pair, spark)) == before + done.accepted + sum(done.rejected.values())
    [line] = said
    assert line.startswith(f"'{kind.name}' is ingested without a cluster: Kafka cluster 'dc2'")
    assert ingestion_ledger.through_by_cluster(conn, kind.name) == {"dc1": clock.now(), "dc2": NINE + MINUTE}
    assert ingestion_ledger.ingested_through(conn, kind.name) == NINE + MINUTE
    [outage] = outages.open_outages(conn)
    assert (outage.cause, outage.start, outage.end) == (Cause.BEHIND, NINE + MINUTE, NINE + 5 * MINUTE)

    clock.advance(2 * MINUTE)
    ingest(pair, spark, conn, kind, clock, log_to(said.append))
    _all_once(pair, spark, sent)
    assert outages.open_outages(conn) == []
    assert ingestion_ledger.ingested_through(conn, kind.name) == clock.now()
    [(accepted,)] = conn.execute(
        "SELECT sum(accepted)::int FROM platform.minute_events WHERE kind = %s", (kind.name,)
    ).fetchall()
    mine = [record for record in oracle.accepted(sent) if record.kind == kind.name]
    assert accepted == len(mine)  # each delivery counts


class _Killed(Exception):
    pass


@pytest.mark.parametrize("written", [False, True])
def test_a_planned_step_of_a_cluster_that_went_away_holds_nobody_up(
    pair: Platform,
    second_broker: Broker,
    conn: Connection,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    written: bool,
) -> None:
    """Killed before Spark wrote, or after: whatever the step holds is there once in the end."""
    kind = pair.catalog.kinds[0]
    sent = send_to_each(pair, NINE, NINE + MINUTE)
    clock = ManualClock(NINE + MINUTE)

    def die(*_: object, **__: object) -> None:
        raise _Killed

    with monkeypatch.context() as patched, pytest.raises(_Killed):
        patched.setattr(
            *((ingestion_ledger, "finish_step", die) if written else (type(pair.raw_store), "append", die))
        )
        ingest(pair, spark, conn, kind, clock, log_to(print))
    assert ingestion_ledger.pending_step(conn, kind.name) is not None

    sent += send_to_each(pair, NINE + MINUTE, NINE + 2 * MINUTE)
    clock.advance(MINUTE)
    with second_broker.silent():
        ingest(pair, spark, conn, kind, clock, log_to(print))
    assert ingestion_ledger.pending_step(conn, kind.name) is None
    clusters = {cluster for cluster, *_ in _positions(pair, spark)}
    assert clusters == ({"dc1", "dc2"} if written else {"dc1"})
    clock.advance(MINUTE)
    ingest(pair, spark, conn, kind, clock, log_to(print))
    _all_once(pair, spark, sent)


def test_an_hour_is_exact_only_with_every_cluster(
    pair: Platform, second_broker: Broker, conn: Connection, spark: SparkSession
) -> None:
    hour = pair.catalog.calendar.window(Grain.HOUR, NINE + timedelta(minutes=30))
    sent = send_to_each(pair, hour.end - 3 * MINUTE, hour.end - MINUTE)
    clock, said = ManualClock(hour.end - MINUTE), list[str]()
    for kind in pair.catalog.kinds:
        ingest(pair, spark, conn, kind, clock, log_to(print))
    sent += send_to_each(pair, hour.end - MINUTE, hour.end)
    with shift_at_work(pair, spark, ManualClock(hour.end + GRACE), [], []) as shift:
        shift.attempt()

    run = Batch(pair, spark, conn, "batch", clock, log_to(said.append))
    clock.wait_until(hour.end + 3 * MINUTE)
    before = label(conn, Grain.HOUR, NINE, pair)
    with second_broker.silent():
        done = run.catch_up([_earlier(pair, hour), hour], pair.catalog.metrics)
    assert done.computed == (_earlier(pair, hour),)
    # The number stays; what it waits for is told by another reason.
    assert replace(label(conn, Grain.HOUR, NINE, pair), doubt=before.doubt) == before
    assert before.source is Source.ROLLUP
    reason = f"cluster dc2 not ingested since {hour.end - MINUTE:%Y-%m-%d %H:%M} UTC"
    marks = changed_hours(conn)
    assert {(mark.kind, mark.reason) for mark in marks if mark.start == hour.start} == {
        (kind.name, reason) for kind in pair.catalog.kinds
    }
    assert any(line.startswith(f"{hour} of 'interactions' cannot be exact yet: {reason}") for line in said)

    clock.advance(60 * MINUTE)
    fresh = fresh_hours(clock.now(), pair.catalog.calendar)
    run.catch_up(fresh, pair.catalog.metrics, repair=True)
    for metric in oracle.RULES:
        assert oracle.differences(conn, oracle.deduplicated(sent), metric, Grain.HOUR) == []
    after = label(conn, Grain.HOUR, NINE, pair)
    assert after.exact
    assert 0.95 < after.coverage <= 1  # but for the rejected records of the traffic
    assert changed_hours(conn) == []
    assert outages.open_outages(conn) == []


def _hourly(
    platform: Platform, spark: SparkSession, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> ExecuteInProcessResult:
    """Run the hourly job as its schedule does."""
    monkeypatch.setattr(assets, "batch_session", lambda *_: nullcontext(spark))
    monkeypatch.setattr(assets, "now", clock)
    today = clock.now().date()
    definitions = Definitions(
        assets=[raw_assets(platform), batch_assets(platform, Grain.HOUR, today)],
        jobs=batch_jobs(platform)[:2],
        schedules=[schedule for schedule in batch_schedules(platform) if schedule.name == "exact_hours"],
        resources={BATCH_SPARK: ResourceDefinition.none_resource()},
    )
    context = build_schedule_context(
        scheduled_execution_time=clock.now(), repository_def=definitions.get_repository_def()
    )
    [request] = definitions.resolve_schedule_def("exact_hours").evaluate_tick(context).run_requests or []
    return definitions.resolve_job_def("hourly").execute_in_process(
        tags=dict(request.tags), raise_on_error=False
    )


def test_a_kind_that_cannot_be_read_holds_no_other_up(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = orders_elsewhere(platform)
    sent = send(platform, NINE + 10 * MINUTE, NINE + 20 * MINUTE, 5, seed=5)
    clock = ManualClock(NINE + 63 * MINUTE)

    run = _hourly(apart, spark, clock, monkeypatch)

    assert run.success
    raw = {event.asset_key for event in run.get_asset_materialization_events() if event.asset_key}
    assert AssetKey(["raw_events", INTERACTIONS]) in raw
    assert AssetKey(["raw_events", "orders"]) not in raw
    hour = apart.catalog.calendar.window(Grain.HOUR, NINE)
    for metric in oracle.RULES:
        if apart.catalog.metric(metric).kind == INTERACTIONS:
            assert oracle.differences(conn, oracle.deduplicated(sent), metric, Grain.HOUR) == []
            assert ledger.labels(conn, [metric], [hour])[metric, hour].exact
        else:
            assert ledger.labels(conn, [metric], [hour]) == {}
    [outage] = outages.open_outages(conn)
    assert (outage.cluster, outage.cause, outage.end) == ("gone", Cause.BEHIND, clock.now() + MINUTE)
    assert outage.reason.startswith("Kafka cluster 'gone'")
    waiting = [mark for mark in changed_hours(conn) if mark.start == NINE]
    assert [(mark.kind, mark.reason) for mark in waiting] == [("orders", "cluster gone not ingested yet")]

    nowhere = replace(
        apart, clusters=(Cluster("local", apart.clusters[1].bootstrap_servers), apart.clusters[1])
    )
    clock.advance(MINUTE)
    assert not _hourly(nowhere, spark, clock, monkeypatch).success
    assert {one.cluster for one in outages.open_outages(conn)} == {"local", "gone"}
    assert len(outages.open_outages(conn)) == 2  # each goes on; it does not begin anew


def test_a_day_is_computed_of_the_kinds_that_are_there_and_made_up_for_in_one_pass(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(platform, NINE, NINE + 30 * MINUTE, 2, seed=6)
    interactions, orders = platform.catalog.kinds
    lost = (replace(orders, topics=("nowhere",)), interactions)
    without = replace(platform, catalog=replace(platform.catalog, kinds=lost))
    day = platform.catalog.calendar.window(Grain.DAY, NINE)
    clock, said, passes = ManualClock(day.end + 20 * MINUTE), list[str](), list[set[str]]()
    compute = execute.compute_isolated

    def counted(events: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        passes.append(set(events))
        return compute(events, *arguments, **options)

    monkeypatch.setattr(execute, "compute_isolated", counted)
    Batch(without, spark, conn, "daily", clock, log_to(said.append)).catch_up([day], platform.catalog.metrics)
    assert passes
    assert {kind for found in passes for kind in found} == {INTERACTIONS}
    assert said[0].startswith("'orders' cannot be ingested: topic 'nowhere' does not exist")
    assert said[1].endswith("of 'orders' cannot be exact yet: cluster local not ingested yet")
    kinds = {metric.name: metric.kind for metric in platform.catalog.metrics}
    known = ledger.labels(conn, list(kinds), [day])
    assert {kinds[name] for name, _ in known if known[name, day].exact} == {INTERACTIONS}
    assert {mark.kind for mark in changed_hours(conn)} == {"orders"}
    with pytest.raises(NotIngested, match="'orders' cannot be ingested"):
        Batch(without, spark, conn, "by hand", clock, log_to(print)).recompute(
            [day], [metric for metric in platform.catalog.metrics if metric.kind == "orders"]
        )

    assert {outage.cluster for outage in outages.open_outages(conn)} == {"local"}
    clock.advance(MINUTE)
    for kind in platform.catalog.kinds:
        ingest(platform, spark, conn, kind, clock, log_to(print))
    assert outages.open_outages(conn) == []
    Batch(platform, spark, conn, "daily again", clock, log_to(print)).catch_up(
        [day], platform.catalog.metrics
    )
    for metric in oracle.RULES:
        assert oracle.differences(conn, oracle.deduplicated(sent), metric, Grain.DAY) == []
    passes.clear()
    hour = platform.catalog.calendar.window(Grain.HOUR, NINE)
    Batch(platform, spark, conn, "by hand", clock, log_to(print)).recompute([hour], platform.catalog.metrics)
    assert passes == [{INTERACTIONS, "orders"}]


def _earlier(platform: Platform, hour: Window) -> Window:
    return platform.catalog.calendar.window(Grain.HOUR, hour.start - MINUTE)
