"""Ingestion's books: which offsets went into the raw store in which steps, how many events came by minute and
window, which records are lost, and whether the books of a window balance.

What follows from them for the numbers, as that an hour has to be computed again, is in owed. The books that
the raw store itself tells are counted in events/stored_books.py.
"""
