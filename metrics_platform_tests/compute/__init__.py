"""Tests of totals on a local Spark, judged by an oracle in plain Python."""
