"""`metrics-platform traffic`: made-up shoppers for an installation."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.cli.shared.installation import DataDir, installation
from metrics_platform.cli.shared.signals import stop_on_signals
from metrics_platform.clusters import load_clusters
from metrics_platform.errors import StackError
from metrics_platform.local.traffic.sender import send_traffic
from metrics_platform.local.traffic.shop import Mix, topics_of

Share = typer.Option(min=0, max=1)


def traffic(
    rate: Annotated[float, typer.Option(min=0.001, help="Events per second.")] = 200.0,
    duration: Annotated[
        float | None, typer.Option(min=0, help="Seconds to send for.", show_default="until Ctrl-C")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Write one JSON line here for each record sent.", dir_okay=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed sends the same events.", show_default="new")
    ] = None,
    late: Annotated[
        float, typer.Option(min=0, max=1, help="Share of events that arrive up to 2 hours late.")
    ] = 0.01,
    duplicates: Annotated[
        float, typer.Option(min=0, max=1, help="Share of events that are sent twice.")
    ] = 0.005,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share of records that are broken.")] = 0.001,
    data_dir: DataDir = None,
) -> None:
    """Send a made-up web shop's events to the first Kafka cluster of an installation."""
    settings = installation(data_dir, "CLUSTERS")
    topics = topics_of(load_catalog(settings.catalog))
    cluster = load_clusters(settings.clusters)[0]
    if not topics:
        raise StackError(
            f"{settings.catalog} has none of the web shop's events (interactions, orders) to send"
        )
    mix = Mix(
        seed=secrets.randbits(32) if seed is None else seed,
        rate=rate,
        late=late,
        duplicates=duplicates,
        malformed=malformed,
        topics=topics,
    )
    with stop_on_signals() as stopping:
        sent = send_traffic(cluster.bootstrap_servers, mix, duration, ledger, stopping=stopping)
    print(f"traffic: {sent} records sent" + (f", ledger in {ledger}" if ledger else ""))
