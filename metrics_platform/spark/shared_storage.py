"""A raw store that lies at a path: driver and executors must find the same files there.

Where they do not, each executor would write files of its own into a folder that only looks the same, and the
table would name files that nobody finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from metrics_platform.settings import PREFIX, SparkSettings
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.spark.startup import ClusterUnavailable, cluster_place

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What Spark calls a file that its driver listed and an executor did not find.
_NOT_FOUND = ("FILE_NOT_EXIST", "FileNotFoundException")


def require_shared_storage(spark: SparkSettings, session: SparkSession, root: str) -> None:
    """Have the executors that are there read what the driver writes into the raw store.

    Raises ClusterUnavailable when one does not find it. A local session needs no look, nor does a store that
    is no path.
    """
    folder = local_path(root)
    if cluster_manager_of(spark) is ClusterManager.LOCAL or folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f"probe-{uuid4().hex}"
    probe.write_text("seen\n")
    try:
        # So many reads that each core of each executor gets some.
        session.read.text([f"file://{probe}"] * (2 * spark.executors * spark.cores)).count()
    except Exception as error:
        # PySpark and py4j have no common class for it.
        if not any(name in str(error) for name in _NOT_FOUND):
            raise
        raise ClusterUnavailable(
            f"an executor on {cluster_place(spark)} does not see what the driver wrote into the raw store "
            f"{root}; mount it at this path on every worker, or set {PREFIX}RAW_STORE to an address that "
            "all reach"
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def local_path(root: str) -> Path | None:
    """The folder that a raw store's address means on each machine; None for a file system that all share."""
    parts = urlsplit(root)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else root).absolute()
