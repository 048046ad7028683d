"""Tests of the alarms, on a real PostgreSQL and real receivers."""
