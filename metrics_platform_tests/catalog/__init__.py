"""Tests of catalogues, windows and measures; they start no server."""
