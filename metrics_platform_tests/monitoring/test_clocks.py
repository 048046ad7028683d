"""Clocks that differ between hosts: the rule, and the clocks of a real PostgreSQL and of a real session."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.clusters import Cluster
from metrics_platform.monitoring import clocks
from metrics_platform.monitoring.clocks import Reading, judge_clocks
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.verdicts import Verdict, last_verdict
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import send

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def reading(told: float, took: float = 0.0, whose: str = "PostgreSQL at db") -> Reading:
    """Asked at noon; `told` and `took` in seconds."""
    return Reading(whose, NOON, NOON + told * SECOND, NOON + took * SECOND)


def shifted(seconds: float) -> Callable[[], datetime]:
    """This host's clock, as if it were set so far ahead."""
    return lambda: datetime.now(UTC) + seconds * SECOND


@pytest.mark.parametrize(
    ("told", "took", "ahead"),
    [(0, 0, 0), (3, 0, 3), (-3, 0, -3), (0.2, 0.5, 0), (3, 2, 1), (-3, 2, -3), (2, 2, 0)],
)
def test_only_what_the_answers_way_cannot_explain_is_a_difference(
    told: float, took: float, ahead: float
) -> None:
    assert reading(told, took).ahead == ahead * SECOND


@pytest.mark.parametrize("told", [-2, 0, 2])
def test_small_differences_are_no_alarm(told: float) -> None:
    verdict = judge_clocks("clock/x", "code-server", NOON, [reading(told)])
    assert (verdict.severity, verdict.message) == (
        "ok",
        "no clock differs from that of code-server by more than 2 s",
    )


@pytest.mark.parametrize(("told", "side"), [(2.5, "ahead of"), (-2.5, "behind")])
def test_a_large_difference_is_one_line_with_both_hosts_and_what_to_do(told: float, side: str) -> None:
    verdict = judge_clocks("clock/x", "code-server", NOON, [reading(told), reading(2.1), reading(0)])
    assert (verdict.check, verdict.at, verdict.severity) == ("clock/x", NOON, "error")
    assert verdict.message == (
        f"the clock of PostgreSQL at db is 2.5 s {side} that of code-server, more than 2 s: minutes are cut "
        "in the wrong place; keep the time of both by NTP (chrony)"
    )


def test_without_readings_there_is_nothing_to_complain_of() -> None:
    assert judge_clocks("clock/x", "code-server", NOON, []).severity == "ok"


@pytest.mark.parametrize(("seconds", "said"), [(5, "behind"), (-5, "ahead of")])
def test_postgresqls_clock_is_compared_with_this_hosts(conn: Connection, seconds: float, said: str) -> None:
    def verdict(clock: Callable[[], datetime]) -> Verdict:
        return judge_clocks("postgresql", "here", NOON, [clocks.read_postgres_clock(conn, clock)])

    assert verdict(clocks.system_clock).severity == "ok"
    assert verdict(shifted(seconds)).severity == "error"
    assert f" s {said} that of " in verdict(shifted(seconds)).message


def test_records_of_the_future_betray_a_clock_that_is_ahead(platform: Platform) -> None:
    assert clocks.check_kafka_clocks(platform).severity == "ok"  # no records
    now = datetime.now(UTC)
    send(platform, now - 60 * SECOND, now, rate=2, seed=1)
    assert clocks.check_kafka_clocks(platform).severity == "ok"
    verdict = clocks.check_kafka_clocks(platform, shifted(-20))
    assert verdict.severity == "error"
    topics = "|".join(topic for kind in platform.catalog.kinds for topic in kind.topics)
    said = rf"the clock of whoever stamps '({topics})' on cluster 'local' is \d+\.\d s ahead of that of "
    assert re.match(said, verdict.message)
    assert "minutes are cut" not in verdict.message
    assert "those of others do not suffer" in verdict.message


def test_a_silent_cluster_is_not_judged(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metrics_platform.monitoring.clocks._ANSWER_SECONDS", 0.5)
    away = replace(platform, clusters=(Cluster("away", "127.0.0.1:1"),))
    assert clocks.check_kafka_clocks(away, shifted(-20)).severity == "ok"


def test_executors_clocks_are_compared_with_this_hosts(platform: Platform, spark: SparkSession) -> None:
    layer = platform.settings.batch
    clocks.check_executor_clocks(layer, spark)  # the first question is slow
    assert clocks.check_executor_clocks(layer, spark).severity == "ok"
    verdict = clocks.check_executor_clocks(layer, spark, shifted(-3600))
    assert verdict.check == "clock/batch"
    assert verdict.message.startswith("the clock of the executor on ")
    assert " ahead of " in verdict.message


def test_a_run_warns_and_status_hears_of_it(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = judge_clocks(clocks.KAFKA, "code-server", NOON, [reading(7)])
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(clocks, "check_kafka_clocks", lambda _platform: wrong)
        clocks.check_clocks(platform, platform.settings.stream, spark, log_to(said.append))
    assert said == [wrong.message]
    assert last_verdict(conn, clocks.KAFKA) == wrong
    clocks.check_clocks(platform, platform.settings.stream, spark, log_to(said.append))
    assert last_verdict(conn, clocks.KAFKA) != wrong
    assert len(said) == 1


def test_a_store_that_is_away_is_no_reason_to_fail(platform: Platform, spark: SparkSession) -> None:
    away = replace(
        platform, settings=replace(platform.settings, postgres="postgresql://nobody@127.0.0.1:1/x")
    )
    clocks.check_clocks(away, away.settings.stream, spark, log_to(pytest.fail))
