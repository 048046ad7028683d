"""Whether the metric store and the raw store belong together: a pure rule, asked before each ingestion step.

The metric store has the books of ingestion, the raw store has the records. Each may be lost, emptied or
restored from a backup without the other. If ingestion went on then, it would skip records for ever, or read
them twice. So the newest step of both must agree, or nothing is ingested until somebody decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.errors import PlatformError
from metrics_platform.events.step_marks import StoredSteps

RECOVER = "run `metrics-platform recover`, which makes the books of ingestion anew from the raw store"


class StoresDisagree(PlatformError):
    """Metric store and raw store do not belong together; the message says why and what to do."""


@dataclass(frozen=True)
class KnownSteps:
    """What the metric store knows of a kind's steps."""

    installation: str
    newest_planned: int  # 0 before the first
    newest_stored: int  # the newest step that is done and of which the raw store has a commit; 0 for none
    planned_at: datetime | None  # when the newest step was planned that the raw store holds; None if unknown


def disagreement(kind: str, place: str, stored: StoredSteps, known: KnownSteps) -> str | None:
    """What does not fit, in one line that says what to do; None if all is well.

    `place` is the path or URL of the kind's table.
    """
    strangers = [one for one in stored.newest if one not in (None, known.installation)]
    newest = max(stored.newest.values(), default=0)
    if strangers and len(strangers) == len(stored.newest):
        return (
            f"the raw store of '{kind}' ({place}) was written for another metric store ({strangers[0]}) "
            f"than this one ({known.installation}): was the database lost or made anew? {RECOVER}, or "
            "correct METRICS_PLATFORM_POSTGRES or METRICS_PLATFORM_RAW_STORE"
        )
    if newest > known.newest_planned:
        return (
            f"the raw store of '{kind}' ({place}) holds ingestion step {newest}, the metric store knows only "
            f"{known.newest_planned}: it was restored from a backup or lost its last commits; {RECOVER}"
        )
    if newest < known.newest_stored:
        return (
            f"the raw store of '{kind}' ({place}) holds ingestion step {newest or 'none'}, the metric store "
            f"counted {known.newest_stored}: it was emptied or restored from a backup; restore all of it, "
            f"or {RECOVER} and has what Kafka still holds read again"
        )
    told = stored.mark
    if told and known.planned_at and told.step == newest and told.planned_at != known.planned_at:
        return (
            f"ingestion step {newest} of '{kind}' ({place}) is another one in the raw store (planned at "
            f"{told.planned_at:%Y-%m-%d %H:%M:%S}Z) than in the metric store (planned at "
            f"{known.planned_at:%Y-%m-%d %H:%M:%S}Z): one of both was restored from a backup; {RECOVER}"
        )
    return None
