"""Tests of shifts and their supervision; the clock is moved by the test."""
