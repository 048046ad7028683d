"""Tests of what is asked of Kafka, on a real broker."""
