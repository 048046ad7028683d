"""Tests of reading a catalogue: what it means, and each mistake with its line."""
