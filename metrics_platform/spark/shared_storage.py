"""Checks that driver and executors see the same files if the raw store lies at a path.

If they did not, each executor would write files to a folder of its own machine, and the table would name
files that nobody else can read.
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

# How Spark's errors name a file that the driver listed and an executor did not find.
_NOT_FOUND = ("FILE_NOT_EXIST", "FileNotFoundException")


def require_shared_storage(spark: SparkSettings, session: SparkSession, root: str) -> None:
    """Write a file into the raw store and let the running executors read it.

    Raises ClusterUnavailable if one does not find it. Does nothing for a local session, or if the raw store
    is at a URL instead of a path.
    """
    folder = local_path(root)
    if cluster_manager_of(spark) is ClusterManager.LOCAL or folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f"probe-{uuid4().hex}"
    probe.write_text("seen\n")
    try:
        # Enough reads for each core of each executor to get some.
        session.read.text([f"file://{probe}"] * (2 * spark.executors * spark.cores)).count()
    except Exception as error:
        # PySpark and py4j have no common exception class for this error.
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
    """The folder of a raw store that lies at a path; None for one at a URL, which all machines share."""
    parts = urlsplit(root)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else root).absolute()
