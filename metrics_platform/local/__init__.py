"""The embedded stack for one machine: Kafka, PostgreSQL, Dagster and made-up traffic, as ordinary processes."""
