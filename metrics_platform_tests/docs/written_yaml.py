"""YAML as the documents write it: metrics to add to the example catalogue, and clusters files."""

from __future__ import annotations

from pathlib import Path

import yaml

from metrics_platform_tests.docs.documents import Block


def is_clusters(block: Block) -> bool:
    """Whether the block is a clusters file; otherwise it holds metrics."""
    return "clusters" in yaml.safe_load(block.text)


def metric_names(block: Block) -> list[str]:
    """The metrics that the block defines."""
    return list(yaml.safe_load(block.text))


def add_metrics(block: Block, catalog: Path) -> None:
    """Put the block's metrics at the end of a catalogue, as a reader does."""
    catalog.write_text(f"{catalog.read_text().rstrip()}\n\n{block.text}")
