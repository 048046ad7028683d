"""Ranges of Kafka records as the metric store writes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepRange:
    """Offsets [start, end) of one partition."""

    cluster: str
    topic: str
    partition: int
    start: int
    end: int
