"""What is owed: the backlog, and a module for each kind of debt, which says how it arises and what settles
it. The debts are hours whose events changed, gaps, outages, missing windows, metrics that a layer left out.

Lost records and windows that do not balance are entries of the backlog, too, but are found and written with
ingestion's books, in books. Which debts a run works off is decided in batch.
"""
