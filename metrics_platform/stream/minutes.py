"""Committing minutes: their numbers, and beside them how many events were counted for them.

A shift and a run by hand commit through the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Window
from metrics_platform.store.commit import Commit, Committed, commit
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.ledger import Source
from metrics_platform.store.state.books import event_counts
from metrics_platform.store.state.lease import Fence
from metrics_platform.stream.iteration import MinuteTotals


@dataclass(frozen=True)
class CommittingRun:
    """Who commits, and when."""

    run_id: str
    revision: int  # drawn before the records were looked for
    now: datetime
    fence: Fence | None = None  # a shift's: its commit fails once another shift has the lease


def commit_minutes(
    conn: Connection,
    catalog: Catalog,
    windows: Sequence[Window],
    totals: MinuteTotals,
    run: CommittingRun,
    lost: Callable[[str], float],
) -> Committed:
    """Commit the totals of the minutes, and keep how many events of each kind were counted for them.

    `lost` tells for a kind the share of its traffic, 0 to 1, that unreachable clusters keep back. Raises
    FenceLost when the run's fence is not the current one.
    """
    done = commit(
        conn,
        catalog,
        Commit(
            source=Source.STREAM,
            revision=run.revision,
            run_id=run.run_id,
            now=run.now,
            windows=tuple(windows),
            totals=totals.computed.totals,
            fence=run.fence,
            coverage_inputs={
                kind: _coverage_input(counted, windows, lost(kind))
                for kind, counted in totals.counted.items()
            },
        ),
    )
    for kind, counted in totals.counted.items():
        event_counts.record_counted(conn, kind, counted)
    return done


def _coverage_input(
    counted: Mapping[tuple[datetime, str], int], windows: Sequence[Window], lost: float
) -> CoverageInput:
    """What the label of the minutes tells, of one kind: the events of all clusters together."""
    totals = dict.fromkeys(windows, 0)
    by_start = {window.start: window for window in windows}
    for (minute, _), events in counted.items():
        totals[by_start[minute]] += events
    return CoverageInput(totals, lost)
