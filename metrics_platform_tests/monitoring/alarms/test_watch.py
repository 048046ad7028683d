"""The watch: what it tells when a rule, a channel or the metric store itself fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from metrics_platform.monitoring.alarms.channels import Webhook as Channel
from metrics_platform.monitoring.alarms.delivery import ATTEMPTS, LONGEST_PAUSE
from metrics_platform.monitoring.alarms.rules import BY_NAME, RULES, About, Rule
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.monitoring.alarms.watch import _cut_off
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.state import runs
from metrics_platform.store.state.alarm_deliveries import undelivered
from metrics_platform.store.state.alarms import QUIET, Finding, last_look, open_alarms
from metrics_platform.store.state.verdicts import Verdict, record_verdict
from metrics_platform_tests.monitoring.alarms.conftest import Watching
from metrics_platform_tests.store.shop import NOW
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.receivers import MailServer, Webhook

SECOND = timedelta(seconds=1)
HALF = 30 * SECOND


def no_master(conn: Connection) -> None:
    record_verdict(conn, Verdict("spark/stream", NOW, "error", "no master"))


def fails(_at: Snapshot) -> Iterable[Finding]:
    raise ValueError("a mistake\nof two lines")


def reads_what_is_not_there(at: Snapshot) -> Iterable[Finding]:
    at.conn.execute("SELECT 1 FROM platform.nothing")
    return ()


@pytest.mark.parametrize(
    ("find", "said"),
    [(fails, "ValueError: a mistake"), (reads_what_is_not_there, "UndefinedTable: relation")],
)
def test_a_rule_that_fails_is_an_alarm_and_silences_no_other(
    find: object, said: str, watching: Watching, conn: Connection, hook: Webhook
) -> None:
    no_master(conn)
    broken = Rule("clocks", About.PLATFORM, "", "", "", "", find)  # pyright: ignore[reportArgumentType]
    rules = (broken, *(rule for rule in RULES if rule.name != "clocks"))
    record_verdict(conn, Verdict("clock/kafka", NOW, "error", "20 s ahead"))
    watching().look(NOW)
    watch = watching(rules=rules)
    for look in range(8):  # longer than an alarm of which nothing is found stays
        watch.look(NOW + (look + 1) * HALF)
    assert [one for one in hook.told if one[0] in {"no_spark", "clocks", "rule_failed"}] == [
        ("no_spark", "stream", "raised"),
        ("clocks", "kafka", "raised"),
        ("rule_failed", "clocks", "raised"),
    ]
    messages = {alarm.rule: alarm.message for alarm in open_alarms(conn)}
    assert said in messages["rule_failed"]
    assert "\n" not in messages["rule_failed"]
    assert messages["clocks"] == "20 s ahead"


def test_one_look_is_one_message_with_everything_in_it(
    watching: Watching, conn: Connection, hook: Webhook, mail: MailServer
) -> None:
    no_master(conn)
    runs.register(conn, "a run", "hourly", "host", None, NOW)
    runs.note_end(conn, "a run", "no <progress> & more")
    said: list[str] = []
    watching(log=log_to(said.append)).look(NOW + SECOND)
    [body] = hook.bodies
    assert [one["alarm"] for one in body["alarms"]] == ["run_over_time", "no_spark"]
    run, spark, link = body["text"].splitlines()
    assert run == (
        "error: run_over_time, hourly: a run took too long, or hung: the newest run was ended: "
        "no &lt;progress&gt; &amp; more; "
        "since 2026-03-02 10:20 UTC; look: `metrics-platform status`"
    )
    assert "no master" in spark
    assert link == "Dagster: http://127.0.0.1:3000"
    assert body["alarms"][1]["remedy"] == BY_NAME["no_spark"].remedy
    [letter] = mail.mails
    assert letter["Subject"] == "metrics-platform: error: run_over_time, hourly and 1 more"
    assert mail.recipients == ["ops@example.org"]
    assert "no <progress> & more" in str(letter.get_payload(decode=True))
    assert [line for line in said if "no_spark" in line] == [str(spark)]


def test_a_channel_that_fails_is_tried_again_within_bounds_and_told_by_the_other(
    watching: Watching, conn: Connection, hook: Webhook, mail: MailServer
) -> None:
    no_master(conn)
    hook.answers[:] = [500, 404, 302]
    watch, now = watching(), NOW
    for _ in range(4):
        now += HALF
        watch.look(now)
    # at once, after half a minute, after a minute more: then the third failure is an alarm by itself
    assert [(one.attempts, one.last_error) for one in undelivered(conn, NOW)] == [
        (3, "the webhook's server answered 302")
    ]
    assert hook.bodies == []
    watch.look(now + HALF)
    [message] = [alarm.message for alarm in open_alarms(conn) if alarm.rule == "not_delivered"]
    assert message == (
        "1 messages could not be sent by webhook, 0 of them given up: the webhook's server answered 302"
    )
    assert "not_delivered, webhook" in str(mail.mails[-1]["Subject"])
    now += 10 * HALF
    watch.look(now)
    assert ("no_spark", "stream", "raised") in hook.told
    for look in range(7):
        watch.look(now + look * HALF)
    assert hook.told[-1] == ("not_delivered", "webhook", "recovered")
    assert undelivered(conn, NOW) == []


def test_what_cannot_be_sent_is_given_up_in_the_end(
    watching: Watching, conn: Connection, hook: Webhook
) -> None:
    no_master(conn)
    hook.answers[:] = [500] * 100
    watch, now = watching(), NOW
    for _ in range(2 * ATTEMPTS):
        now += LONGEST_PAUSE
        watch.look(now)
    given_up = next(one for one in undelivered(conn, NOW) if one.alarm.rule == "no_spark")
    assert (given_up.attempts, given_up.next_attempt_at) == (ATTEMPTS, None)


def test_a_store_that_is_away_is_told_from_memory_and_recovers_as_any_alarm(
    watching: Watching, installation: Platform, postgres: str, hook: Webhook, mail: MailServer
) -> None:
    watch = watching()
    watch.look(NOW)
    hook.answers[:] = [500]
    with psycopg.connect(postgres, autocommit=True) as server:
        name = installation.settings.postgres.rpartition("/")[2]
        alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        server.execute(alter.format(sql.Identifier(name), sql.SQL("false")))
        watch.look(NOW + HALF)
        assert (hook.told, mail.mails) == ([], [])  # it may just be started anew
        watch.look(NOW + 2 * HALF)
        assert [one["Subject"] for one in mail.mails] == [
            "metrics-platform: error: store_unreachable, postgresql"
        ]
        watch.look(NOW + 3 * HALF)  # the webhook is tried again
        watch.look(NOW + 4 * HALF)
        assert hook.told == [("store_unreachable", "postgresql", "raised")]
        assert len(mail.mails) == 1
        assert name in hook.bodies[0]["text"]
        server.execute(alter.format(sql.Identifier(name), sql.SQL("true")))
        watch.look(NOW + 5 * HALF)
        server.execute(alter.format(sql.Identifier(name), sql.SQL("false")))
        for look in (6, 7):  # away again, before it has recovered
            watch.look(NOW + look * HALF)
        server.execute(alter.format(sql.Identifier(name), sql.SQL("true")))
    back = NOW + 8 * HALF
    watch.look(back)
    with installation.connect() as conn:
        assert "store_unreachable" in {alarm.rule for alarm in open_alarms(conn)}
        for look in (QUIET, 2 * QUIET):
            watch.look(back + look)
        assert "store_unreachable" not in {alarm.rule for alarm in open_alarms(conn)}
    mine = [change for rule, _, change in hook.told if rule == "store_unreachable"]
    assert mine == ["raised", "recovered"]


def test_a_server_that_hangs_is_cut_off(conn: Connection) -> None:
    with pytest.raises(psycopg.OperationalError), _cut_off(conn, 0.2):
        conn.execute("SELECT pg_sleep(60)")
    with suppress(psycopg.Error):
        conn.close()


@pytest.mark.parametrize(
    "change", ["DROP SCHEMA platform CASCADE", "ALTER TABLE platform.alarms RENAME COLUMN rule TO check_name"]
)
def test_a_store_that_was_not_migrated_yet_is_no_alarm(
    change: LiteralString, watching: Watching, conn: Connection, hook: Webhook
) -> None:
    conn.execute(change)
    watch = watching()
    for look in range(4):
        watch.look(NOW + look * HALF)
    assert hook.bodies == []


def test_the_command_looks_tells_and_shows_no_secret(
    installation: Platform, conn: Connection, hook: Webhook, mail: MailServer, tmp_path: Path
) -> None:
    no_master(conn)
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text("clusters: [{name: oslo, bootstrap_servers: '127.0.0.1:1'}]")
    variables = {
        **os.environ,
        "METRICS_PLATFORM_POSTGRES": installation.settings.postgres,
        "METRICS_PLATFORM_CLUSTERS": str(clusters),
        "METRICS_PLATFORM_RAW_STORE": installation.settings.raw_store,
        "METRICS_PLATFORM_ALARM_WEBHOOK": hook.url,
        "METRICS_PLATFORM_ALARM_SMTP": f"smtp://ann:PASSWORD@127.0.0.1:{mail.port}",
        "METRICS_PLATFORM_ALARM_EMAIL": "ops@example.org",
    }
    done = subprocess.run(
        [sys.executable, "-m", "metrics_platform.cli.main", "watch", "--once"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert ("no_spark", "stream", "raised") in hook.told
    assert "no_spark, stream: a layer has no Spark to work with: no master" in printed
    assert "e-mail: the mail server has no TLS, so that the password is not sent" in printed
    assert mail.mails == []
    assert "SECRET" not in printed
    assert "PASSWORD" not in printed
    assert not [word for word in mail.words if "PASSWORD" in word]
    assert last_look(conn) is not None


def test_a_channel_shows_no_secret() -> None:
    assert "SECRET" not in repr(Channel("https://example.org/SECRET"))
