"""What people are told of alarms: one line each, and the same with every detail for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metrics_platform.monitoring.alarms.rules import BY_NAME
from metrics_platform.monitoring.alarms.words import age, when
from metrics_platform.store.state.alarm_deliveries import Delivery
from metrics_platform.store.state.alarms import Alarm, Change

# A message that tells more is cut: who gets it looks at the list anyway.
LINES = 30


def title(alarm: Alarm) -> str:
    """minutes_late, clicks_per_page."""
    return f"{alarm.rule}, {alarm.subject}"


def alarm_line(alarm: Alarm) -> str:
    """An open alarm in one line: how bad, what, since when, where to look."""
    return (
        f"{alarm.severity}: {title(alarm)}: {alarm.message}; since {when(alarm.since)}; look: `{alarm.look}`"
    )


def delivery_line(told: Delivery) -> str:
    """A change of an alarm in one line."""
    alarm = told.alarm
    if told.change is Change.RECOVERED:
        lasted = age(told.changed_at - alarm.since)
        return f"recovered: {title(alarm)}: {told.message}; it lasted {lasted}"
    word = f"{told.severity} (worse)" if told.change is Change.WORSE else str(told.severity)
    return (
        f"{word}: {title(alarm)}: {BY_NAME[alarm.rule].meaning}: {told.message}; "
        f"since {when(alarm.since)}; look: `{alarm.look}`"
    )


def subject_line(told: Sequence[Delivery]) -> str:
    """The subject of an e-mail."""
    first = told[0]
    word = "recovered" if first.change is Change.RECOVERED else str(first.severity)
    more = f" and {len(told) - 1} more" if len(told) > 1 else ""
    return f"metrics-platform: {word}: {title(first.alarm)}{more}"


def text(told: Sequence[Delivery], link: str | None) -> str:
    """All changes, a line each, and where Dagster's UI is."""
    lines = [delivery_line(one) for one in told[:LINES]]
    if len(told) > LINES:
        lines.append(f"and {len(told) - LINES} more: `metrics-platform status`")
    if link:
        lines.append(f"Dagster: {link}")
    return "\n".join(lines)


def body(told: Sequence[Delivery], link: str | None) -> dict[str, Any]:
    """The JSON object for a webhook: `text` as Slack reads it, and everything in `alarms`."""
    plain = text(told, link)
    slack = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": slack, "dagster": link, "alarms": [_details(one) for one in told]}


def _details(told: Delivery) -> dict[str, Any]:
    alarm, rule = told.alarm, BY_NAME[told.alarm.rule]
    return {
        "alarm": alarm.rule,
        "subject": alarm.subject,
        "change": told.change,
        "severity": told.severity,
        "message": told.message,
        "meaning": rule.meaning,
        "remedy": rule.remedy,
        "look": alarm.look,
        "since": alarm.since.isoformat(),
        "raised_at": alarm.raised_at.isoformat(),
        "changed_at": told.changed_at.isoformat(),
    }
