"""Verdicts on how the platform is doing: freshness, reconciliation, clocks, Spark, and what status tells.

The rules are pure functions; beside them stand functions that read what they judge. Dagster's checks and
sensors, which show the verdicts, are in orchestration; the processes of a stack in local/status.py.
"""
