"""The SQL expressions of a catalogue: which functions they may call, and of which type they are.

They are read here, with sqlglot; Spark computes them.
"""
