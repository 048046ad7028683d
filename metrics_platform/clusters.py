"""Kafka clusters: reads the clusters file and configures the two Kafka clients.

The platform uses librdkafka to look up offsets and topics, and the Java client inside Spark to read records.
The file has options once, with librdkafka's names, and they are translated for Java (see kafka_options.py).
One that cannot be translated is refused, unless `spark_options` has it, too, with what Java is to be told.
${NAME} in a value stands for an environment variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from metrics_platform.errors import PlatformError
from metrics_platform.kafka_options import Untranslatable, java_options

_VARIABLE = re.compile(r"\$\{(\w+)\}")

# Fetches are larger than the Java client's defaults, which fit many small consumers: a micro-batch is one
# large sequential read. CRCs are not checked, because TCP has its own checksums.
_SPARK_FETCH = {
    "kafka.max.poll.records": "20000",
    "kafka.fetch.max.bytes": str(64 * 1024 * 1024),
    "kafka.max.partition.fetch.bytes": str(16 * 1024 * 1024),
    "kafka.receive.buffer.bytes": str(1024 * 1024),
    "kafka.check.crcs": "false",
    # All records to be read exist already. At a partition's end the client's prefetch waits at the broker for
    # this time, and so does Spark's next request, which asks for the partition's offsets. The default is half
    # a second.
    "kafka.fetch.max.wait.ms": "10",
    # A silent broker makes the read fail early enough to leave time for the next minute.
    "kafka.request.timeout.ms": "15000",
    "kafka.default.api.timeout.ms": "20000",
}


# A broker's host that vanished is noticed, as Java's client does by itself.
_KEEPALIVE = {"socket.keepalive.enable": "true"}


class ClustersError(PlatformError):
    """The clusters file cannot be used. The message says where the mistake is and what to write."""


@dataclass(frozen=True)
class Cluster:
    """One Kafka cluster."""

    name: str
    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict)  # with librdkafka's names
    spark_options: Mapping[str, str] = field(default_factory=dict)  # with the Java client's names

    def client_options(self) -> dict[str, str]:
        """The settings for librdkafka (confluent-kafka).

        Whatever the file says, only committed records are read.
        """
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **_KEEPALIVE,
            **self.options,
            "isolation.level": "read_committed",
        }

    def source_options(self) -> dict[str, str]:
        """The options for Spark's Kafka source. Settings of the Java client get the prefix `kafka.`.

        Whatever the file says, only committed records are read.
        """
        java = {**java_options(self.options, self.spark_options), **self.spark_options}
        return {
            "kafka.bootstrap.servers": self.bootstrap_servers,
            **_SPARK_FETCH,
            **{f"kafka.{name}": value for name, value in java.items()},
            "kafka.isolation.level": "read_committed",
        }


def load_clusters(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Cluster, ...]:
    """Read the clusters file. ${NAME} in its values is replaced by the environment variable.

    Raises ClustersError if the file is missing or malformed, names a variable that is not set, or has an
    option that cannot be told to Spark's client.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ClustersError(f"{path}: cannot be read ({error.strerror}); write a list of clusters") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClustersError(
            f'{path}: is no YAML: {" ".join(str(error).split())}; inside {{ }} write "${{NAME}}" with quotes'
        ) from error
    entries = content.get("clusters") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ClustersError(f"{path}: has no list 'clusters'; write at least one name and bootstrap_servers")
    clusters = tuple(
        _cluster(_Entry(entry, f"{path}: cluster {index}", environment))
        for index, entry in enumerate(entries, start=1)
    )
    names = [cluster.name for cluster in clusters]
    if len(set(names)) < len(names):
        raise ClustersError(f"{path}: two clusters have the same name; give each its own")
    return clusters


@dataclass(frozen=True)
class _Entry:
    """One cluster of the file, before it is checked. All methods raise ClustersError for a mistake."""

    content: object
    where: str  # the file and the cluster's number in it, for messages
    environment: Mapping[str, str]

    def mapping(self) -> dict[object, object]:
        """The cluster's keys and values."""
        if not isinstance(self.content, dict):
            raise ClustersError(f"{self.where} is no mapping; write name: and bootstrap_servers:")
        return self.content

    def text(self, key: str) -> str:
        """The text of a required key."""
        value = self.mapping().get(key)
        if not isinstance(value, str):
            raise ClustersError(f"{self.where} lacks '{key}'; write {key}: ...")
        return self._with_variables(value)

    def options(self, key: str) -> dict[str, str]:
        """The options of an optional key, as text."""
        options = self.mapping().get(key) or {}
        if not isinstance(options, dict):
            raise ClustersError(f"{self.where}: '{key}' is no mapping; write {key}: {{name: value}}")
        return {str(name): self._option(str(name), value) for name, value in options.items()}

    def _option(self, name: str, value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            raise ClustersError(f"{self.where}: the option '{name}' is no text; write {name}: value")
        return self._with_variables(str(value))

    def _with_variables(self, text: str) -> str:
        missing = [name for name in _VARIABLE.findall(text) if name not in self.environment]
        if missing:
            raise ClustersError(f"{self.where}: the environment variable {missing[0]} is not set; export it")
        return _VARIABLE.sub(lambda match: self.environment[match.group(1)], text)


def _cluster(entry: _Entry) -> Cluster:
    unknown = set(entry.mapping()) - {"name", "bootstrap_servers", "options", "spark_options"}
    if unknown:
        raise ClustersError(f"{entry.where} has the unknown key '{min(map(str, unknown))}'; remove it")
    options, spark_options = entry.options("options"), entry.options("spark_options")
    try:
        java_options(options, spark_options)
    except Untranslatable as error:
        raise ClustersError(f"{entry.where}: {error}") from error
    return Cluster(
        name=entry.text("name"),
        bootstrap_servers=entry.text("bootstrap_servers"),
        options=options,
        spark_options=spark_options,
    )
