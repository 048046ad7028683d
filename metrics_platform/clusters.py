"""Kafka clusters: which there are, and how the two Kafka clients are told to reach them.

The platform talks to Kafka with librdkafka (offsets, topics) and with the Java client inside Spark
(records). Options are written once, in librdkafka's names, and translated for Java; what has no
common name goes into `spark_options` as it is. ${NAME} in a value stands for an environment variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from metrics_platform.errors import PlatformError

_VARIABLE = re.compile(r"\$\{(\w+)\}")

# Larger fetches than the Java client's defaults, which are sized for many small consumers:
# one micro-batch is one large sequential read. TCP already checks what the CRC would.
_SPARK_FETCH = {
    "kafka.max.poll.records": "20000",
    "kafka.fetch.max.bytes": str(64 * 1024 * 1024),
    "kafka.max.partition.fetch.bytes": str(16 * 1024 * 1024),
    "kafka.receive.buffer.bytes": str(1024 * 1024),
    "kafka.check.crcs": "false",
    # What is read exists already. A prefetch at a partition's end is held by the broker for so long, and with
    # it what Spark asks for after each fetch, the partition's offsets: by default half a second.
    "kafka.fetch.max.wait.ms": "10",
    # A silent broker fails the read before it has cost the next minute too.
    "kafka.request.timeout.ms": "15000",
    "kafka.default.api.timeout.ms": "20000",
}


class ClustersError(PlatformError):
    """The clusters file cannot be used; the message says where and what to write."""


@dataclass(frozen=True)
class Cluster:
    """One Kafka cluster. `options` are librdkafka settings, `spark_options` Java client settings."""

    name: str
    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict)
    spark_options: Mapping[str, str] = field(default_factory=dict)

    def client_options(self) -> dict[str, str]:
        """Settings for confluent-kafka."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.options}

    def source_options(self) -> dict[str, str]:
        """Options for Spark's Kafka source; Java client settings carry the prefix `kafka.`."""
        java = {**_translate(self.options), **self.spark_options}
        return {
            "kafka.bootstrap.servers": self.bootstrap_servers,
            **_SPARK_FETCH,
            **{f"kafka.{name}": value for name, value in java.items()},
        }


def load_clusters(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Cluster, ...]:
    """Read the clusters file; ${NAME} in its values is replaced from the environment.

    Raises ClustersError when the file is missing, malformed or names an unset variable.
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
    """One cluster as the file has it, and where it stands."""

    content: object
    where: str
    environment: Mapping[str, str]

    def mapping(self) -> dict[object, object]:
        if not isinstance(self.content, dict):
            raise ClustersError(f"{self.where} is no mapping; write name: and bootstrap_servers:")
        return self.content

    def text(self, key: str) -> str:
        value = self.mapping().get(key)
        if not isinstance(value, str):
            raise ClustersError(f"{self.where} lacks '{key}'; write {key}: ...")
        return self._filled(value)

    def options(self, key: str) -> dict[str, str]:
        options = self.mapping().get(key) or {}
        if not isinstance(options, dict):
            raise ClustersError(f"{self.where}: '{key}' is no mapping; write {key}: {{name: value}}")
        return {str(name): self._option(str(name), value) for name, value in options.items()}

    def _option(self, name: str, value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            raise ClustersError(f"{self.where}: the option '{name}' is no text; write {name}: value")
        return self._filled(str(value))

    def _filled(self, text: str) -> str:
        missing = [name for name in _VARIABLE.findall(text) if name not in self.environment]
        if missing:
            raise ClustersError(f"{self.where}: the environment variable {missing[0]} is not set; export it")
        return _VARIABLE.sub(lambda match: self.environment[match.group(1)], text)


def _cluster(entry: _Entry) -> Cluster:
    unknown = set(entry.mapping()) - {"name", "bootstrap_servers", "options", "spark_options"}
    if unknown:
        raise ClustersError(f"{entry.where} has the unknown key '{min(map(str, unknown))}'; remove it")
    return Cluster(
        name=entry.text("name"),
        bootstrap_servers=entry.text("bootstrap_servers"),
        options=entry.options("options"),
        spark_options=entry.options("spark_options"),
    )


def _translate(options: Mapping[str, str]) -> dict[str, str]:
    """librdkafka settings in the Java client's names."""
    java = {name: options[name] for name in ("security.protocol", "client.id") if name in options}
    mechanism = options.get("sasl.mechanism") or options.get("sasl.mechanisms")
    if mechanism:
        java["sasl.mechanism"] = mechanism
    if "sasl.username" in options:
        java["sasl.jaas.config"] = _login(mechanism or "PLAIN", options)
    if "ssl.ca.location" in options:
        java |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": options["ssl.ca.location"]}
    if "ssl.keystore.location" in options:
        java |= {"ssl.keystore.type": "PKCS12", "ssl.keystore.location": options["ssl.keystore.location"]}
    if "ssl.keystore.password" in options:
        java["ssl.keystore.password"] = options["ssl.keystore.password"]
    if options.get("ssl.endpoint.identification.algorithm") == "none":
        java["ssl.endpoint.identification.algorithm"] = ""
    return java


def _login(mechanism: str, options: Mapping[str, str]) -> str:
    module = "scram.ScramLoginModule" if mechanism.startswith("SCRAM") else "plain.PlainLoginModule"
    user, password = (
        options.get(name, "").replace("\\", "\\\\").replace('"', '\\"')
        for name in ("sasl.username", "sasl.password")
    )
    return f'org.apache.kafka.common.security.{module} required username="{user}" password="{password}";'
