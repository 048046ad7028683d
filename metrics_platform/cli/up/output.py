"""Standard output that may go away: a pipe whose reader ends, a terminal that closes, a disk that is full.

A command that has processes to stop must go on without it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO


@contextmanager
def lossy_output() -> Iterator[None]:
    """Inside, everything that is written to standard output and cannot be is dropped without an error."""
    with redirect_stdout(LossyOutput(sys.stdout)):
        yield


class LossyOutput(io.TextIOBase):
    """A text stream that never raises: from the first failed write on it writes nothing.

    `stream` is None when the process was started with a closed standard output.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - as TextIOWrapper has it
        """The encoding of the stream, by which Rich chooses its characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str, /) -> int:
        """Write the text, or drop it."""
        with self._failing_once():
            if self._stream:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        with self._failing_once():
            if self._stream:
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor, by which Rich finds the terminal's size. Raises OSError without one."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    @contextmanager
    def _failing_once(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError:
            pass  # the terminal has not all of its characters; the next text may be shown
        except (OSError, ValueError):  # a ValueError: the stream was closed
            with suppress(OSError, ValueError):
                _discard(self.fileno())
            self._stream = None


def _discard(descriptor: int) -> None:
    """Let what is still buffered for the descriptor go nowhere, so that flushing it at the exit succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
