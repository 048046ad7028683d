"""All that is Dagster's: assets, jobs, schedules, sensors, checks, the run queue, backfills.

Nothing is computed here: each definition hands its arguments to the layer that does the work.
"""
