"""What people define, in YAML: events, metrics, and the windows that time is cut into.

Plain Python: nothing here knows Spark, Dagster, Kafka or PostgreSQL.
"""
