"""Tests of what Dagster loads: definitions, checks, jobs, queue, launcher, backfills."""
