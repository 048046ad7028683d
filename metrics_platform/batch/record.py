"""Writing down what a plan decided about the backlog, before anything is computed."""

from __future__ import annotations

import logging

from metrics_platform.batch.plan import RecomputePlan
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.changed_hours import mark_changed, mark_waiting, settle_hours
from metrics_platform.store.state.owed.missing import record_missing


def record_decisions(conn: Connection, plan: RecomputePlan, logger: logging.Logger) -> None:
    """Bring the backlog to the plan, in one transaction: what moved, expired, waits or is missing.

    What waits for a cluster is logged, one line for each kind of event, and what does not fit into the run.
    """
    with conn.transaction():
        _move(conn, plan)
        for entry in plan.expired:
            settle_hours(conn, entry.kind or "", [entry.start], entry.step or 0, plan.now)
        for one in plan.waiting:
            step = plan.steps[one.kind.name]
            mark_waiting(conn, one.kind.name, one.hours, step, one.reason, plan.now)
        for kind, windows in (plan.missing or {}).items():
            record_missing(conn, kind, windows, plan.now)
    for one in plan.waiting:
        units = ", ".join(map(str, one.units))
        logger.warning(f"{units} of '{one.kind.name}' cannot be exact yet: {one.reason}")
    if plan.later:
        logger.warning(
            f"{len(plan.later)} older hours do not fit into the run's time for repairs, beside "
            f"{len(plan.repairs)} that do: `metrics-platform backlog` says when they are repaired"
        )


def _move(conn: Connection, plan: RecomputePlan) -> None:
    """Give today's hours the entries of hours that a calendar of before cut at other minutes."""
    for entry, (first, *others) in plan.moved:
        kind, step = entry.kind or "", entry.step or 0
        settle_hours(conn, kind, [entry.start], step, plan.now)
        events = {first.start: entry.events} | {hour.start: 0 for hour in others}
        mark_changed(conn, kind, events, step, entry.reason, entry.since)
