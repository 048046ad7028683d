"""Output that may go away: what cannot be written is dropped, and the rest goes on."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout

from rich.console import Console

from metrics_platform.cli.up.output import LossyOutput


def test_what_can_be_written_is() -> None:
    there = io.StringIO()
    print("a line", file=LossyOutput(there), flush=True)
    assert there.getvalue() == "a line\n"


def test_a_closed_output_is_no_error() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        output = LossyOutput(stream)
        print("a line", file=output, flush=True)
        assert not output.isatty()
        with redirect_stdout(output):
            Console().print("another")


def test_after_a_reader_went_away_the_rest_is_dropped_and_the_exit_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output = LossyOutput(stream)
        for _ in range(3):
            print("a line", file=output, flush=True)
        stream.flush()  # as Python does when it ends


def test_a_character_that_cannot_be_shown_drops_its_text_alone() -> None:
    there = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = LossyOutput(there)
    print("\u00e9", file=output)
    print("e", file=output, flush=True)
    assert there.buffer.getvalue().split() == [b"e"]  # pyright: ignore[reportAttributeAccessIssue] - a BytesIO
