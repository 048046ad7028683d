"""Topics on a real broker, made and deleted in the middle of a test."""

from __future__ import annotations

from uuid import uuid4

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from metrics_platform_tests.support.waiting import wait_for


def new_topic(bootstrap: str, name: str | None = None, partitions: int = 3) -> str:
    """A topic that keeps its records whatever their times say; on return the broker tells of it."""
    name = name or f"test-{uuid4().hex[:12]}"
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config={"retention.ms": "-1"})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [created] = admin.create_topics([topic]).values()
    created.result()
    wait_for(lambda: name in admin.list_topics(timeout=5).topics, 30, f"topic {name}")
    return name


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic; on return the broker no longer tells of it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [deleted] = admin.delete_topics([name]).values()
    deleted.result()
    wait_for(lambda: name not in admin.list_topics(timeout=5).topics, 30, f"the end of topic {name}")
