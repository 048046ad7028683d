"""Totals are copied in full, however Arrow divides them into chunks."""

from __future__ import annotations

import pyarrow as pa
import pytest

from metrics_platform.store.staging import _csv


def _pieces(sizes: list[int]) -> pa.ChunkedArray:
    """The numbers from 0 on, in chunks of the given sizes."""
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return pa.chunked_array(
        [pa.array(range(start, start + size), pa.int64()) for start, size in zip(starts, sizes, strict=True)]
    )


@pytest.mark.parametrize("sizes", [[3], [0, 3], [1, 2], [2, 1], [0, 1, 1, 1, 0], [1, 0, 2]])
@pytest.mark.parametrize("others", [[3], [1, 2], [0, 0, 3]])
def test_columns_with_different_chunks_are_written_in_full(sizes: list[int], others: list[int]) -> None:
    texts = pa.chunked_array([pa.array(["x"] * size, pa.string()) for size in others])
    table = pa.table({"number": _pieces(sizes), "text": texts, "again": _pieces(others)})
    assert _csv(table) == b'0,"x",0\n1,"x",1\n2,"x",2\n'
