"""What Kafka has: offsets, timestamps, and the records that Spark reads of them.

Nothing here writes to Kafka, nor commits an offset there.
"""
