"""What can be wrong with the values, apart from their reader, which is slow to import."""

from __future__ import annotations


class ValuesError(Exception):
    """Values that cannot be used; the message has a line for each mistake."""
