"""YAML in the documents is read by the platform's own loaders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.clusters import load_clusters
from metrics_platform.settings import PACKAGE
from metrics_platform_tests.docs.documents import DOCUMENTS, Block, blocks
from metrics_platform_tests.docs.written_yaml import add_metrics, is_clusters, metric_names

BLOCKS = [block for document in DOCUMENTS for block in blocks(document, "yaml")]


@pytest.mark.parametrize("block", [block for block in BLOCKS if not is_clusters(block)], ids=str)
def test_metrics_are_read_at_the_end_of_the_example_catalogue(block: Block, tmp_path: Path) -> None:
    catalog = tmp_path / "mine.yaml"
    shutil.copy(PACKAGE / "catalog" / "webshop.yaml", catalog)
    before = load_catalog(catalog).metrics
    add_metrics(block, catalog)
    assert [metric.name for metric in load_catalog(catalog).metrics[len(before) :]] == metric_names(block)


@pytest.mark.parametrize("block", [block for block in BLOCKS if is_clusters(block)], ids=str)
def test_a_clusters_file_is_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "clusters.yaml"
    path.write_text(block.text)
    for cluster in load_clusters(path, {"KAFKA_PASSWORD": "secret"}):
        assert cluster.bootstrap_servers
        assert "secret" in cluster.source_options()["kafka.sasl.jaas.config"]
