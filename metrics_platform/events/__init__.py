"""Events as they come and as they are kept: Kafka's records, their decoding, the raw store.

Which of them are read when is decided by ingestion, stream and batch.
"""
