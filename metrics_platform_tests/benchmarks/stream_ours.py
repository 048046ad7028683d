"""The platform's iteration as a program: offsets, read, strict decoding, totals, commit, as in a shift.

Arguments: a prefix for the topics of the catalogue, and the metrics to compute.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.orchestration.resources import STREAM_SPARK, spark_resources
from metrics_platform.platform import Platform, load_platform
from metrics_platform.settings import Settings
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.ledger import Source
from metrics_platform.store.schema import migrate
from metrics_platform.stream.iteration import compute_minutes, find_records, minutes
from metrics_platform_tests.benchmarks.serve import own_answers, serve


def main(prefix: str, *metrics: str) -> None:
    """Serve the command `iterate` for the minutes [start, end) in ISO 8601.

    It answers with seconds and counts.
    """
    answers = own_answers()
    platform = _with_topics(load_platform(Settings.from_environment()), prefix)
    spark = spark_resources(platform)[STREAM_SPARK].spark_session
    log = KafkaLog(platform.clusters)

    def iterate(start: str, end: str) -> dict[str, float | int]:
        windows = minutes(datetime.fromisoformat(start), datetime.fromisoformat(end))
        began = time.perf_counter()
        revision = next_revision(conn)
        until = windows[-1].end + platform.settings.grace
        ranges = find_records(platform, log, windows, until, metrics)
        totals = compute_minutes(platform, spark, log, windows, ranges, datetime.now(UTC), metrics)
        computed = time.perf_counter()
        done = commit(
            conn,
            platform.catalog,
            Commit(
                source=Source.STREAM,
                revision=revision,
                run_id="bench",
                now=datetime.now(UTC),
                windows=windows,
                totals=totals.computed.totals,
            ),
        )
        ended = time.perf_counter()
        return {
            "seconds": ended - began,
            "commit_seconds": ended - computed,
            "records": totals.records,
            "refused": len(done.refused),
            "rejected": sum(totals.computed.rejected.values()) + sum(totals.computed.outside.values()),
        }

    with platform.connect() as conn:
        migrate(conn, platform.catalog, datetime.now(UTC))
        serve(answers, spark, {"iterate": iterate})


def _with_topics(platform: Platform, prefix: str) -> Platform:
    kinds = tuple(
        replace(kind, topics=tuple(f"{prefix}{kind.name}" for _ in kind.topics[:1]))
        for kind in platform.catalog.kinds
    )
    return replace(platform, catalog=replace(platform.catalog, kinds=kinds))


if __name__ == "__main__":
    main(*sys.argv[1:])
