"""Dagster's entry point."""

from datetime import UTC, datetime

from metrics_platform.orchestration.build import build_definitions
from metrics_platform.platform import load_for_runs
from metrics_platform.settings import Settings

defs = build_definitions(load_for_runs(Settings.from_environment()), today=datetime.now(UTC).date())
