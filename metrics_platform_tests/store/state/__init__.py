"""Tests of what the store remembers between runs, on a real PostgreSQL."""
