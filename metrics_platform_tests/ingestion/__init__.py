"""Tests of raw ingestion and replays, on real servers, killed in the middle too."""
