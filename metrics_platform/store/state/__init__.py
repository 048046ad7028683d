"""What the platform has to remember between runs, a module for each of its tables: the shift's lease, the
ledger of ingestion, gaps, outages, dirty hours, alarms, and the definitions that windows follow.

The numbers themselves and the ledger of their windows lie in the package above.
"""
