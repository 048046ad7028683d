"""Tests of what is owed, on a real PostgreSQL."""
