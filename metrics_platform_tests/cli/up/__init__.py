"""Tests of how `metrics-platform up` runs."""
