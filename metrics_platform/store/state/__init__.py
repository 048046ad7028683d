"""What the platform has to remember between runs, a module for each of its tables: the shift's lease, gaps,
outages, dirty hours, alarms, and the definitions that windows follow; ingestion's books are a package.

The numbers themselves and the ledger of their windows lie in the package above.
"""
