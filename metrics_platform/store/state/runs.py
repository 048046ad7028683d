"""The runs that use Spark: where each works, and when it was last seen to get on.

A run registers itself and reports its progress. That its process is gone is recorded by whoever looks after
the runs, because a process cannot report its own end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from metrics_platform.processes import Identity
from metrics_platform.store.connection import Connection


@dataclass(frozen=True)
class RunAtWork:
    """A run whose process has not been seen to be gone."""

    run_id: str
    job: str
    host: str
    began_at: datetime
    progress_at: datetime  # when it was last seen to get on
    doing: str  # what it was seen to do then
    process: Identity | None  # that works on this run alone; None if it does other things, too


@dataclass(frozen=True)
class EndedRun:
    """The newest run of a job, which the platform ended."""

    job: str
    because: str
    at: datetime


_COLUMNS: LiteralString = "run_id, job, host, began_at, progress_at, doing, pid, pid_created"


def register(
    conn: Connection, run_id: str, job: str, host: str, process: Identity | None, now: datetime
) -> None:
    """A run begins to work, or goes on with its next step."""
    conn.execute(
        """
        INSERT INTO platform.runs (run_id, job, host, pid, pid_created, began_at, progress_at, doing)
        VALUES (%(run_id)s, %(job)s, %(host)s, %(pid)s, %(created)s, %(now)s, %(now)s, 'starting Spark')
        ON CONFLICT (run_id) DO UPDATE SET progress_at = excluded.progress_at, doing = excluded.doing
        """,
        {
            "run_id": run_id,
            "job": job,
            "host": host,
            "pid": process.pid if process else None,
            "created": process.created if process else None,
            "now": now,
        },
    )


def note_progress(conn: Connection, run_id: str, doing: str, now: datetime) -> None:
    """A run was seen to get on."""
    conn.execute(
        "UPDATE platform.runs SET progress_at = %s, doing = %s WHERE run_id = %s", (now, doing, run_id)
    )


def note_end(conn: Connection, run_id: str, because: str) -> None:
    """The platform ended a run, for a reason that people will read."""
    conn.execute("UPDATE platform.runs SET ended_because = %s WHERE run_id = %s", (because, run_id))


def close(conn: Connection, run_id: str, now: datetime) -> None:
    """The run's process is gone."""
    conn.execute("UPDATE platform.runs SET closed_at = %s WHERE run_id = %s", (now, run_id))


def runs_at_work(conn: Connection) -> list[RunAtWork]:
    """All runs that are not closed, oldest first."""
    found = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.runs WHERE closed_at IS NULL ORDER BY began_at, run_id"
    ).fetchall()
    return [
        RunAtWork(*row, process=Identity(pid, created) if pid is not None else None)
        for *row, pid, created in found
    ]


def ended_runs(conn: Connection) -> list[EndedRun]:
    """The newest run of each job, where the platform ended it."""
    rows = conn.execute(
        """
        SELECT job, ended_because, closed_at FROM (
            SELECT DISTINCT ON (job) job, ended_because, coalesce(closed_at, progress_at) AS closed_at
            FROM platform.runs ORDER BY job, began_at DESC
        ) AS newest
        WHERE ended_because IS NOT NULL ORDER BY job
        """
    )
    return [EndedRun(*row) for row in rows]
