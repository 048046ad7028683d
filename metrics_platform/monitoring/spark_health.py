"""Why a layer has no Spark to work with, kept in the metric store for `metrics-platform status`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import psycopg

from metrics_platform.platform import Platform
from metrics_platform.store.connection import StoreUnavailable
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.verdicts import OK, Verdict, record_verdict


def record_spark_health(platform: Platform, layer: str, reason: str | None) -> None:
    """Keep why the layer's newest run got no Spark session, in one line; `reason` is None when it got one.

    Nothing is kept when the metric store cannot be reached: the run's own failure says the same.
    """
    now = datetime.now(UTC)
    verdict = Verdict(f"spark/{layer}", now, "error" if reason else OK, reason or "at work")
    with suppress(StoreUnavailable, psycopg.OperationalError), platform.connect() as conn:
        migrate(conn, platform.catalog, now)
        record_verdict(conn, verdict)
