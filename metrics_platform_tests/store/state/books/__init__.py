"""Tests of ingestion's books, on a real PostgreSQL."""
