"""Tests of the formats of answers."""
