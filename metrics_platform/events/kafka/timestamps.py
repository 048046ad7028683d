"""Looks up the newest Kafka time of each topic, from which the stream knows which minutes are complete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import Unreachable

_ANSWER_SECONDS = 5.0


def max_timestamps(cluster: Cluster, topics: Sequence[str]) -> dict[str, datetime]:
    """The latest Kafka time of each topic's records. A topic without records has no entry.

    Raises Unreachable if the cluster does not answer.
    """
    admin = AdminClient({**cluster.client_options(), "log_level": 0})
    newest: dict[str, datetime] = {}
    try:
        for topic in topics:
            partitions = admin.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions
            max_timestamp: Any = OffsetSpec.max_timestamp()  # its declared type includes None
            asked = {TopicPartition(topic, number): max_timestamp for number in partitions}
            answers = admin.list_offsets(asked, request_timeout=_ANSWER_SECONDS) if asked else {}
            latest = max((answer.result().timestamp for answer in answers.values()), default=-1)
            if latest >= 0:
                newest[topic] = datetime.fromtimestamp(latest / 1000, UTC)
    except KafkaException as error:
        raise Unreachable(f"cluster '{cluster.name}' does not answer: {error.args[0].str()}") from error
    return newest
