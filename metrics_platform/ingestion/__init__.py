"""Raw ingestion: from Kafka into the raw store, each record once, in steps that can be repeated.

The books of the steps are store/state/books/ingestion_ledger.py; the raw store itself is events/raw_store.py.
"""
