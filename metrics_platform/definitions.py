"""Dagster's entry point."""

from datetime import UTC, datetime

from metrics_platform.orchestration.build import build_definitions
from metrics_platform.orchestration.platform import load_platform
from metrics_platform.settings import Settings

defs = build_definitions(load_platform(Settings.from_environment()), today=datetime.now(UTC).date())
