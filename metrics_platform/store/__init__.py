"""The metric store: PostgreSQL, its schema, the commit and its rule, the ledger, reading."""
