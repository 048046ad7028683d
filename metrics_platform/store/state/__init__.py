"""What the platform has to remember between runs, a module for each of its tables: the shift's lease, alarms,
the runs at work, the definitions that windows follow. Ingestion's books and what is owed are packages.

The numbers themselves and the ledger of their windows lie in the package above.
"""
