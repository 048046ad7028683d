"""Tests of decoding and of the raw store; those of Kafka lie in the package below."""
