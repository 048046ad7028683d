"""What a Delta table's log says of the table. Delta's Python API gives it as the result of Spark jobs
only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class TableVersion:
    """One version of a Delta table."""

    number: int
    # By application id, the newest transaction that was written with it. Delta keeps these for ever.
    transactions: Mapping[str, int]


def is_table(spark: SparkSession, path: str) -> bool:
    """Whether there is a Delta table."""
    table = _class(spark, "io.delta.tables.DeltaTable")
    return bool(table.isDeltaTable(spark._jsparkSession, path))  # noqa: SLF001


def current_version(spark: SparkSession, path: str) -> TableVersion:
    """The newest version of the table."""
    log = _class(spark, "org.apache.spark.sql.delta.DeltaLog").forTable(spark._jsparkSession, path)  # noqa: SLF001
    nothing = _class(spark, "scala.Option").empty()
    snapshot = log.update(False, nothing, nothing)
    transactions: dict[str, int] = {}
    pairs = snapshot.transactions().iterator()
    while pairs.hasNext():
        pair = pairs.next()
        transactions[pair.productElement(0)] = pair.productElement(1)
    return TableVersion(snapshot.version(), transactions)


def user_metadata(spark: SparkSession, path: str, version: int) -> Iterator[str]:
    """What the commits up to the version carry as user metadata, newest first, as far as the log's files
    reach.

    The files are described in https://github.com/delta-io/delta/blob/master/PROTOCOL.md.
    """
    path_of, io_utils = (
        _class(spark, "org.apache.hadoop.fs.Path"),
        _class(spark, "org.apache.commons.io.IOUtils"),
    )
    folder = path_of(f"{path}/_delta_log")
    session: Any = spark._jsparkSession  # noqa: SLF001
    files = folder.getFileSystem(session.sessionState().newHadoopConf())
    for number in range(version, -1, -1):
        commit = path_of(folder, f"{number:020}.json")
        if not files.exists(commit):
            return
        stream = files.open(commit)
        try:
            text = io_utils.toString(stream, "UTF-8")
        finally:
            stream.close()
        for line in text.splitlines():
            told = (
                json.loads(line).get("commitInfo", {}).get("userMetadata") if "commitInfo" in line else None
            )
            if told:
                yield told


def _class(spark: SparkSession, name: str) -> Any:  # noqa: ANN401 - Java's classes have no type here
    """A class of the JVM. Asked for package by package, each would be looked up in all jars."""
    return getattr(spark._jvm, name)  # noqa: SLF001  the public API of delta-spark does the same
