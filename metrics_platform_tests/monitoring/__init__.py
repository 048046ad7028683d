"""Tests of verdicts. What Dagster shows of them is tested in orchestration."""
