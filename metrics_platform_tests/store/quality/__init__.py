"""Tests of revisions, corrections and usual errors, on a real PostgreSQL."""
