"""The embedded stack for one machine: Kafka, PostgreSQL, Dagster and traffic, as ordinary processes."""
