"""The made-up shop's events for the YARN stack: of an hour that is over, and of now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from threading import Event, Thread

import orjson

from metrics_platform.local.traffic import sender
from metrics_platform.local.traffic.shop import Mix, Record, generate, topics_of
from metrics_platform.platform import Platform
from metrics_platform_tests.support.traffic import produce

PARTITIONS = 2  # of the stack's topics
LIVE_RATE = 30.0


def past_hour(platform: Platform, start: datetime) -> list[Record]:
    """Send the hour's events, late and duplicate and malformed ones among them; all that was sent."""
    topics = topics_of(platform.catalog)
    mix = Mix(seed=start.hour, rate=2, late=0.02, duplicates=0.02, partitions=PARTITIONS, topics=topics)
    end = (start + timedelta(hours=1)).timestamp()
    records = list(takewhile(lambda record: record.at < end, generate(mix, start.timestamp())))
    produce(platform, records)
    return records


class Live:
    """Events of this moment, on time and each once: what the stream counts is exact."""

    def __init__(self, platform: Platform, path: Path) -> None:
        self._path = path
        self._stopping = Event()
        topics = topics_of(platform.catalog)
        mix = Mix(seed=1, rate=LIVE_RATE, late=0, duplicates=0, partitions=PARTITIONS, topics=topics)
        servers = platform.clusters[0].bootstrap_servers
        self._thread = Thread(
            target=sender.send_traffic,
            args=(servers, mix),
            kwargs={"ledger": path, "stopping": self._stopping},
        )

    def stop(self) -> list[Record]:
        """Send no more; all that was sent."""
        self._stopping.set()
        self._thread.join()
        return [_record(line) for line in self._path.read_bytes().splitlines()]

    @contextmanager
    def flowing(self) -> Iterator[Live]:
        """Events flow inside the context, unless they are stopped before its end."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join()


def _record(line: bytes) -> Record:
    told = orjson.loads(line)
    names = ("topic", "partition", "kind", "event", "sort", "reason")
    return Record(at=told["sent_at"] / 1000, value=b"", **{name: told[name] for name in names})
