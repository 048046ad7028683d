"""Tests of Spark's settings and start; no cluster is needed (those are in end_to_end and yarn)."""
