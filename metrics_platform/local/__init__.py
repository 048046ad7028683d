"""The stack for one machine: Kafka, PostgreSQL, Dagster and traffic, as ordinary processes that are watched.

It is for trying and testing. Production code does not know it.
"""
