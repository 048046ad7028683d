"""Tests of whole installations: a running stack, both layers, clusters out of reach, a standalone Spark."""
