"""The error for values that cannot be used. It is not in values.py, because that module is slow to import."""

from __future__ import annotations


class ValuesError(Exception):
    """The values cannot be used. The message has a line for each mistake."""
