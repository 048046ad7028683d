"""An installation with a migrated store and two receivers, and a watch over it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metrics_platform.clusters import Cluster
from metrics_platform.monitoring.alarms.channels import channels
from metrics_platform.monitoring.alarms.rules import RULES, Rule
from metrics_platform.monitoring.alarms.watch import Watch
from metrics_platform.platform import Platform
from metrics_platform.settings import AlarmSettings, Settings
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import METRICS, NOW, catalog
from metrics_platform_tests.support.receivers import MailServer, Webhook, mail_server, webhook

Watching = Callable[..., Watch]
LINK = "http://127.0.0.1:3000"
EMPTY_DISK = AlarmSettings(
    disk_warn=2.0, disk_error=2.0
)  # that of the machine is none of the test's business


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as received:
        yield received


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as received:
        yield received


@pytest.fixture
def installation(database: str, tmp_path: Path) -> Platform:
    """An installation of two metrics, migrated at NOW, that never computed anything."""
    settings = Settings.from_environment(
        {
            "METRICS_PLATFORM_POSTGRES": database,
            "METRICS_PLATFORM_CLUSTERS": "",
            "METRICS_PLATFORM_RAW_STORE": str(tmp_path / "raw"),
        }
    )
    shop = catalog(METRICS[0], METRICS[1])
    platform = Platform(replace(settings, alarms=EMPTY_DISK), shop, (Cluster("oslo", "192.0.2.1:1"),))
    with platform.connect() as conn:
        migrate(conn, shop, NOW)
    return platform


@pytest.fixture
def conn(installation: Platform) -> Iterator[Connection]:
    with installation.connect() as conn:
        yield conn


@pytest.fixture
def watching(installation: Platform, hook: Webhook, mail: MailServer) -> Watching:
    """Makes a watch that tells both receivers."""

    def make(
        alarms: AlarmSettings = EMPTY_DISK,
        platform: Platform = installation,
        rules: tuple[Rule, ...] = RULES,
        log: logging.Logger | None = None,
    ) -> Watch:
        told = replace(alarms, webhook=hook.url, smtp=mail.url, recipients=("ops@example.org",))
        settings = replace(platform.settings, alarms=told)
        return Watch(
            replace(platform, settings=settings),
            channels(told, LINK),
            log or logging.getLogger("watch"),
            rules,
        )

    return make
