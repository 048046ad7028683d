"""Topics on a real broker, made and deleted in the middle of a test."""

from __future__ import annotations

from uuid import uuid4

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

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


def add_partitions(bootstrap: str, name: str, count: int) -> None:
    """Give a topic more partitions, `count` in all; on return all of them can be written to."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [created] = admin.create_partitions([NewPartitions(name, count)]).values()
    created.result()

    def led() -> bool:
        found = admin.list_topics(name, timeout=5).topics[name].partitions
        return len(found) == count and all(each.leader >= 0 for each in found.values())

    wait_for(led, 30, f"{count} partitions of {name}")
