"""Marks: what each commit to the raw store says of the ingestion step that it belongs to.

A mark is written in the same Delta commit as the step's rows. So whatever becomes of the metric store, the
raw store can tell which steps it holds, of which installation, and which records of Kafka they read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from metrics_platform.events.kafka.offsets import OffsetRange

# What the application id of Delta's transactions begins with. Delta keeps the newest version of each id.
_APPLICATION = "metrics-platform"


@dataclass(frozen=True)
class StepMark:
    """The ingestion step of one commit."""

    installation: str  # the identity of the metric store that planned the step
    step: int
    planned_at: datetime  # also the ingestion time of the step's records
    ranges: tuple[OffsetRange, ...] = ()  # what it read; empty for a replay
    topic_ids: tuple[tuple[str, str, str], ...] = ()  # cluster, topic and the topic's id

    def to_json(self) -> str:
        """The mark as text."""
        return json.dumps(
            {
                "installation": self.installation,
                "step": self.step,
                "planned_at": self.planned_at.isoformat(),
                "ranges": [[r.cluster, r.topic, r.partition, r.start, r.end] for r in self.ranges],
                "topic_ids": self.topic_ids,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str | None) -> StepMark | None:
        """The mark that a commit carries; None if it carries none: nobody's step made it."""
        try:
            told = json.loads(text or "")
        except ValueError:
            return None
        if not isinstance(told, dict) or "installation" not in told:
            return None
        return StepMark(
            installation=told["installation"],
            step=told["step"],
            planned_at=datetime.fromisoformat(told["planned_at"]),
            ranges=tuple(OffsetRange(*one) for one in told["ranges"]),
            topic_ids=tuple((cluster, topic, found) for cluster, topic, found in told["topic_ids"]),
        )


@dataclass(frozen=True)
class StoredSteps:
    """Which steps of a kind of event the raw store holds."""

    newest: Mapping[str | None, int]  # by installation, the newest step; None for steps of before marks
    mark: StepMark | None  # of the newest step, if its commit is still in Delta's log


def application_id(kind: str, installation: str | None) -> str:
    """The application id of the Delta transactions that an installation writes for a kind of event.

    Steps of before installations had identities were written without one.
    """
    return "/".join(filter(None, (_APPLICATION, kind, installation)))


def newest_steps(kind: str, transactions: Mapping[str, int]) -> dict[str | None, int]:
    """By installation, the newest step of the kind among Delta's transactions, given by application id."""
    newest: dict[str | None, int] = {}
    for application, version in transactions.items():
        name, _, rest = application.partition("/")
        named, _, installation = rest.partition("/")
        if name == _APPLICATION and named == kind:
            newest[installation or None] = version
    return newest
