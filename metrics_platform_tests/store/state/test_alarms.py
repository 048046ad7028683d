"""Alarms: raised once, recovered once, told again only when they become worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.alarm_deliveries import (
    Delivery,
    deliveries_of,
    due_deliveries,
    note_attempts,
    undelivered,
    write_step,
)
from metrics_platform.store.state.alarms import (
    QUIET,
    Alarm,
    Change,
    Finding,
    Key,
    Severity,
    Step,
    last_look,
    next_steps,
    note_look,
    open_alarms,
)
from metrics_platform.store.state.verdicts import Verdict, last_verdict, last_verdicts, record_verdict
from metrics_platform_tests.store.shop import NOW

OK, WARN, ERROR = Severity
HALF = timedelta(seconds=30)
KEY: Key = ("disk_full", "Dagster")


def live(found: Sequence[Severity | None]) -> list[tuple[int, Change]]:
    """What is told of an alarm whose rule finds this, every half minute: (look, change).

    None is a look at which the rule could not be judged.
    """
    told: list[tuple[int, Change]] = []
    known: list[Alarm] = []
    for look, severity in enumerate(found):
        now = NOW + look * HALF
        findings = {KEY: Finding(KEY[1], severity, f"at {look}", now)} if severity else {}
        failed = {KEY[0]} if severity is None else set[str]()
        steps = next_steps(known, findings, {KEY: "df -h"}, failed, now)
        told += [(look, step.change) for step in steps if step.change]
        known = [step.alarm for step in steps if not step.alarm.recovered_at] or (known if failed else [])
    return told


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([OK, ERROR, ERROR, ERROR], [(1, Change.RAISED)]),
        ([ERROR, OK, OK, OK, OK, OK, OK], [(0, Change.RAISED), (5, Change.RECOVERED)]),
        ([ERROR, OK, ERROR, OK, OK, ERROR, OK, OK], [(0, Change.RAISED)]),
        ([WARN, WARN, ERROR, ERROR], [(0, Change.RAISED), (2, Change.WORSE)]),
        ([ERROR, WARN, WARN], [(0, Change.RAISED)]),
        ([ERROR, *[None] * 9, ERROR], [(0, Change.RAISED)]),
        ([OK, OK], []),
    ],
    ids=["lasts", "recovers", "comes and goes", "gets worse", "gets better", "cannot be judged", "fine"],
)
def test_a_change_is_told_once(found: list[Severity | None], told: list[tuple[int, Change]]) -> None:
    assert QUIET == 4 * HALF
    assert live(found) == told


def test_a_subject_that_is_gone_recovers_in_the_words_of_before() -> None:
    alarm = Alarm(*KEY, WARN, "92 % full", "df -h", NOW, NOW, quiet_since=NOW)
    [step] = next_steps([alarm], {}, {}, (), NOW + QUIET)
    assert (step.change, step.message) == (Change.RECOVERED, "no longer: 92 % full")


def test_each_channel_is_told_each_change_once_and_what_failed_is_kept(conn: Connection) -> None:
    alarm = Alarm(*KEY, ERROR, "97 % full", "df -h", NOW - HALF, NOW)
    raised = Step(alarm, Change.RAISED, "97 % full")
    for _ in range(2):  # the second time changes nothing
        write_step(conn, raised, deliveries_of(raised, ["webhook", "e-mail"], NOW))
    assert open_alarms(conn) == [alarm]
    [webhook], [mail] = (due_deliveries(conn, name, NOW) for name in ("webhook", "e-mail"))
    assert (webhook.alarm, webhook.change, webhook.severity) == (alarm, Change.RAISED, ERROR)
    note_attempts(conn, [after(webhook, sent_at=NOW), after(mail, next_attempt_at=NOW + HALF)])
    assert due_deliveries(conn, "webhook", NOW + HALF) == []
    assert due_deliveries(conn, "e-mail", NOW) == []
    assert [one.attempts for one in due_deliveries(conn, "e-mail", NOW + HALF)] == [1]
    assert [one.channel for one in undelivered(conn, NOW)] == ["e-mail"]
    assert undelivered(conn, NOW + HALF) == []


def after(
    delivery: Delivery, *, sent_at: datetime | None = None, next_attempt_at: datetime | None = None
) -> Delivery:
    return replace(delivery, attempts=1, sent_at=sent_at, next_attempt_at=next_attempt_at)


def test_the_last_look_is_kept(conn: Connection) -> None:
    assert last_look(conn) is None
    note_look(conn, NOW, NOW + HALF)
    note_look(conn, NOW + HALF, NOW + 2 * HALF)
    found = last_look(conn)
    assert found is not None
    assert (found.at, found.next_at) == (NOW + HALF, NOW + 2 * HALF)


def test_a_verdict_is_kept_when_it_says_something_new(conn: Connection) -> None:
    assert last_verdict(conn, "spark/stream") is None
    said = ["no room", "no room", "no master"]
    for minute, reason in enumerate(said):
        record_verdict(conn, Verdict("spark/stream", NOW + minute * HALF, "error", reason))
    record_verdict(conn, Verdict("clock/kafka", NOW, "ok", "fine"))
    assert last_verdicts(conn, "spark") == {
        "stream": Verdict("spark/stream", NOW + 2 * HALF, "error", "no master")
    }
    assert conn.execute("SELECT count(*) FROM platform.verdicts").fetchone() == (3,)
