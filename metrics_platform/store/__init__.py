"""The metric store in PostgreSQL: its schema, the commit and its rule, the ledger, and queries.

Times and numbers are handed in: nothing here reads a clock, Kafka or the raw store.
"""
