"""Every alarm is raised once when its rule becomes true and recovers once when it is over.

The rules read a real PostgreSQL, into which the store's own functions write what is late or wrong; a real
server receives what the webhook is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring.alarms.rules import BY_NAME, RULE_FAILED, STORE_UNREACHABLE
from metrics_platform.platform import Platform
from metrics_platform.settings import AlarmSettings
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.state import lease, runs
from metrics_platform.store.state.alarms import QUIET, open_alarms
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.books.audits import Audit, record_audits
from metrics_platform.store.state.books.ingestion_ledger import Counts
from metrics_platform.store.state.books.step_range import StepRange
from metrics_platform.store.state.owed import outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.left_out import Layer, record_left_out
from metrics_platform.store.state.verdicts import Verdict, record_verdict
from metrics_platform_tests.monitoring.alarms.conftest import EMPTY_DISK, Watching
from metrics_platform_tests.store.shop import NOW, Visit, put, window
from metrics_platform_tests.support.receivers import Webhook
from metrics_platform_tests.support.steps import lost_span

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

State = Callable[[Connection, Catalog, datetime], None]


def nothing(_conn: Connection, _shop: Catalog, _now: datetime) -> None:
    """Time alone does it."""


def newest_minute(conn: Connection, shop: Catalog, now: datetime) -> None:
    put(conn, shop, Source.STREAM, [shop.calendar.last_complete(Grain.MINUTE, now)], [], now=now)


def lease_for(ttl: timedelta) -> State:
    def take(conn: Connection, _shop: Catalog, now: datetime) -> None:
        assert lease.acquire(conn, lease.STREAM_LEASE, "shift", now, ttl)

    return take


def behind(conn: Connection, _shop: Catalog, now: datetime) -> None:
    outages.record_outage(conn, "oslo", Cause.BEHIND, now - HOUR, now, "it does not answer", now)


def caught_up(conn: Connection, _shop: Catalog, now: datetime) -> None:
    outages.settle_caught_up(conn, ["visits"], now)


def ingested(accepted: int, rejected: int) -> State:
    def ingest(conn: Connection, _shop: Catalog, now: datetime) -> None:
        step = ingestion_ledger.plan_step(conn, "visits", [], now)
        counts = Counts(accepted, rejected, {"wrong type": rejected})
        ingestion_ledger.finish_step(conn, "visits", step.version, counts, {"oslo": now}, now)

    return ingest


def lost(conn: Connection, _shop: Catalog, now: datetime) -> None:
    span = lost_span(StepRange("oslo", "web.visits", 0, 10, 1010), now)
    ingestion_ledger.plan_step(conn, "visits", [], now, lost=[span])


def exact_hour(conn: Connection, shop: Catalog, now: datetime) -> None:
    put(conn, shop, Source.BATCH, [window(shop, "hour", "2026-03-02T10:00")], [], now=now)


def replaced(hour: str, early: int, exact: int) -> State:
    """An hour for which the stream counted so many visits and the batch so many."""

    def replace_it(conn: Connection, shop: Catalog, now: datetime) -> None:
        whole = window(shop, "hour", hour)
        minutes = list(shop.calendar.children(whole))
        put(conn, shop, Source.STREAM, minutes, [Visit(whole.start)] * early, now=now)
        put(conn, shop, Source.BATCH, [whole, *minutes], [Visit(whole.start)] * exact, now=now)

    return replace_it


def audited(counted: int) -> State:
    """An hour of which ingestion accepted 10 visits and the batch counted so many."""

    def audit(conn: Connection, shop: Catalog, now: datetime) -> None:
        differences = None if counted == 10 else f"{10 - counted} events are missing"
        hour = window(shop, "hour", "2026-03-02T10:00")
        one = Audit("visits", hour, 1, 10, 0, counted, 0, differences=differences)
        record_audits(conn, [one], "a run", now)

    return audit


def run_of_hourly(ended: bool) -> State:
    def run(conn: Connection, _shop: Catalog, now: datetime) -> None:
        name = f"run of {now}"
        runs.register(conn, name, "hourly", "host", None, now)
        if ended:
            runs.note_end(conn, name, "hourly took longer than 120 min")

    return run


def left_out(reasons: dict[str, str]) -> State:
    """The stream tries a metric, which fails if there is a reason."""

    def try_it(conn: Connection, shop: Catalog, now: datetime) -> None:
        record_left_out(conn, Layer.STREAM, [shop.metric("revenue")], reasons, now)

    return try_it


def verdict(check: str, severity: str, message: str) -> State:
    def record(conn: Connection, _shop: Catalog, now: datetime) -> None:
        record_verdict(conn, Verdict(check, now, severity, message))

    return record


@dataclass(frozen=True)
class Case:
    """How an alarm comes and goes."""

    rule: str
    subject: str
    before: State  # at NOW
    after: timedelta  # how long after NOW the rule is true
    said: str  # in the message
    over: State
    lasts: timedelta = MINUTE  # until it is over
    bounds: AlarmSettings = EMPTY_DISK  # until it is over
    severity: str = "error"


CASES = (
    Case("minutes_late", "visits", newest_minute, 5 * MINUTE, "ended 300 s ago", newest_minute),
    Case("no_shift", "stream", lease_for(15 * SECOND), 2 * MINUTE, "no shift has been", lease_for(HOUR)),
    Case("cluster_missing", "oslo/ingestion", behind, SECOND, "lacks cluster 'oslo'", caught_up),
    Case("ingestion_behind", "visits", ingested(1, 0), 2 * HOUR + SECOND, "'oslo'", ingested(1, 0)),
    Case("exact_overdue", "visits/hour", nothing, 4 * HOUR, "the hour of 2026-03-02 10:00", exact_hour),
    Case("rejected", "visits", ingested(80, 20), SECOND, "20 were rejected, 20.0%", nothing, 2 * HOUR),
    Case("lost_records", "visits/oslo/web.visits", lost, SECOND, "1,000 records", nothing, DAY),
    Case("books_unbalanced", "visits", audited(7), SECOND, "3 events are missing", audited(10)),
    Case(
        "reconciliation", "visits/hour", replaced("2026-03-02T08:00", 9, 10), SECOND, "off by at most 10",
        replaced("2026-03-02T09:00", 10, 10),
    ),
    Case(
        "left_out", "revenue/stream", left_out({"revenue": "its filter fails"}), SECOND,
        "its filter fails", left_out({}),
    ),
    Case("run_over_time", "hourly", run_of_hourly(True), SECOND, "longer than 120 min", run_of_hourly(False)),
    Case(
        "no_spark", "stream", verdict("spark/stream", "error", "no master"), SECOND, "no master",
        verdict("spark/stream", "ok", "at work"),
    ),
    Case(
        "clocks", "kafka", verdict("clock/kafka", "error", "20 s ahead"), SECOND, "20 s ahead",
        verdict("clock/kafka", "ok", "no clock differs"),
    ),
    Case(
        "disk_full", "raw store, PostgreSQL", nothing, SECOND, "% full", nothing,
        bounds=AlarmSettings(disk_warn=1e-9, disk_error=2.0), severity="warn",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_an_alarm_is_raised_once_and_recovers_once(
    case: Case, installation: Platform, conn: Connection, watching: Watching, hook: Webhook
) -> None:
    shop, now = installation.catalog, NOW + case.after
    case.before(conn, shop, NOW)
    watch = watching(case.bounds)
    for look in range(3):
        watch.look(now + look * 30 * SECOND)
    mine = [one for one in hook.told if one[0] == case.rule and one[1].startswith(case.subject)]
    assert mine == [(case.rule, case.subject, "raised")]
    [told] = [
        one
        for body in hook.bodies
        for one in body["alarms"]
        if (one["alarm"], one["subject"]) == (case.rule, case.subject)
    ]
    assert case.said in told["message"]
    assert told["severity"] == case.severity
    assert told["look"]
    assert datetime.fromisoformat(told["since"]) <= now

    end = now + case.lasts
    case.over(conn, shop, end)
    watch = watching(EMPTY_DISK)
    for look in (timedelta(0), QUIET, QUIET + 30 * SECOND):
        watch.look(end + look)
    mine = [change for rule, subject, change in hook.told if (rule, subject) == (case.rule, case.subject)]
    assert mine == ["raised", "recovered"]
    assert (case.rule, case.subject) not in {alarm.key for alarm in open_alarms(conn)}


def test_no_alarm_is_left_without_a_test() -> None:
    elsewhere = {"not_delivered", RULE_FAILED, STORE_UNREACHABLE}  # in test_watch.py
    assert {case.rule for case in CASES} | elsewhere == set(BY_NAME)


def test_a_new_installation_is_given_time(watching: Watching, hook: Webhook) -> None:
    watching().look(NOW + MINUTE)
    assert hook.bodies == []


@pytest.mark.parametrize(
    ("grain", "ended", "allowed"),
    [("hour", "2026-03-02T11:00", 3), ("day", "2026-03-03T00:00", 30), ("week", "2026-03-09T00:00", 72)],
)
def test_each_grain_has_its_time_to_become_exact(
    grain: str, ended: str, allowed: int, watching: Watching, hook: Webhook
) -> None:
    end = datetime.fromisoformat(f"{ended}+00:00")
    watching().look(end + allowed * HOUR - SECOND)
    assert ("exact_overdue", f"visits/{grain}", "raised") not in hook.told
    watching().look(end + allowed * HOUR)
    assert ("exact_overdue", f"visits/{grain}", "raised") in hook.told


@pytest.mark.parametrize(
    ("accepted", "rejected", "severity"), [(98, 1, None), (99, 1, "warn"), (990, 9, None), (90, 10, "error")]
)
def test_few_rejected_records_are_a_warning_and_of_few_records_nothing_is_said(
    accepted: int, rejected: int, severity: str | None, conn: Connection, installation: Platform,
    watching: Watching, hook: Webhook,
) -> None:  # fmt: skip
    ingested(accepted, rejected)(conn, installation.catalog, NOW)
    watching().look(NOW + SECOND)
    found = [one["severity"] for body in hook.bodies for one in body["alarms"] if one["alarm"] == "rejected"]
    assert found == ([severity] if severity else [])


def test_a_warning_that_becomes_an_error_is_told_again(
    watching: Watching, hook: Webhook, conn: Connection
) -> None:
    watching(replace(EMPTY_DISK, disk_warn=1e-9)).look(NOW + SECOND)
    for later in (2, 3):
        watching(AlarmSettings(disk_warn=1e-9, disk_error=1e-9)).look(NOW + later * SECOND)
    assert [change for rule, _, change in hook.told if rule == "disk_full"] == ["raised", "worse"]
