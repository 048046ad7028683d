"""The streaming layer: shifts that commit each minute seconds after it closes, approximately.

When a shift starts is decided here, by a pure rule; starting it is Dagster's work (see orchestration).
"""
