"""Every command and query in the documents works: they are run on the stack, in the documents' order."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_platform.local.stack import Stack
from metrics_platform.store.connection import Connection
from metrics_platform_tests.docs.documents import DOCUMENTS, blocks, name
from metrics_platform_tests.end_to_end.running_stack.asking import dagster, healthy, newest_minute, wait_for
from metrics_platform_tests.end_to_end.running_stack.reader import Reader, new_reader

pytestmark = [pytest.mark.server]

WRITTEN = [document for document in DOCUMENTS if blocks(document, "sh", "sql")]


@pytest.fixture
def store_at_work(stack: Stack, variables: dict[str, str], store: Connection) -> Connection:
    """The metric store of a stack that has numbers, raw events to preview a metric on, and no problem."""
    wait_for(lambda: newest_minute(store), 300)
    ingested = "SELECT 1 FROM platform.ingested WHERE kind = 'orders' AND through IS NOT NULL"
    if not store.execute(ingested).fetchall():
        dagster(variables, "--select", "raw_events/orders")
    wait_for(lambda: healthy(stack), 150)
    return store


@pytest.fixture
def reader(stack: Stack, store_at_work: Connection, tmp_path: Path) -> Reader:
    """A reader whose SQL has the role that the documents give rights to."""
    role = "SELECT 1 FROM pg_roles WHERE rolname = 'analysts'"
    if not store_at_work.execute(role).fetchall():
        store_at_work.execute("CREATE ROLE analysts")
    return new_reader(tmp_path, stack, store_at_work)


@pytest.mark.parametrize("document", WRITTEN, ids=name)
def test_a_reader_can_do_what_a_document_says(document: Path, reader: Reader) -> None:
    for block in blocks(document, "sh", "sql", "yaml"):
        reader.follow(block)
