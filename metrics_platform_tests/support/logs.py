"""Loggers for code that is told where to log."""

from __future__ import annotations

import logging
from collections.abc import Callable


class _WrittenTo(logging.Logger):
    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__("test", logging.DEBUG)
        self._write = write

    def handle(self, record: logging.LogRecord) -> None:
        self._write(record.getMessage())


def log_to(write: Callable[[str], object]) -> logging.Logger:
    """A logger that gives the text of each line to `write`, whatever its level.

    `log_to(lines.append)` collects the lines in a list, `log_to(print)` shows them with a test that fails.
    """
    return _WrittenTo(write)
