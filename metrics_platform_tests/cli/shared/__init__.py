"""Tests of what several commands share."""
