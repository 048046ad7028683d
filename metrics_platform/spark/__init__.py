"""Spark sessions: their settings on each kind of cluster, their start, and whether they still work.

What is computed with a session is no business of this package.
"""
