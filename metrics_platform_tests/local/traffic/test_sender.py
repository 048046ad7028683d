"""Traffic on a real broker: the ledger and Kafka tell the same story, whatever happens to the broker."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import orjson
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from metrics_platform.errors import StackError
from metrics_platform.local.ports import free_ports
from metrics_platform.local.servers import kafka as local_kafka
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.local.traffic.sender import send_traffic
from metrics_platform.local.traffic.shop import Mix
from metrics_platform.processes import Identity


@pytest.fixture
def topics(kafka: str) -> dict[str, str]:
    names = {kind: f"{kind}-{uuid4().hex[:8]}" for kind in ("interactions", "orders")}
    local_kafka.create_topics(kafka, names.values())
    return names


def mix(topics: dict[str, str], rate: float = 500) -> Mix:
    return Mix(seed=3, rate=rate, late=0.05, duplicates=0.05, malformed=0.05, topics=topics)


def on_kafka(bootstrap: str, topics: dict[str, str]) -> list[tuple[str, int, bytes]]:
    """Every record of the topics: topic, partition, value."""
    places = [
        TopicPartition(name, number) for name in topics.values() for number in range(local_kafka.PARTITIONS)
    ]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "judge", "auto.offset.reset": "earliest"}
    )
    try:
        total = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign([TopicPartition(place.topic, place.partition, 0) for place in places])
        messages = consumer.consume(total, timeout=20)
        assert len(messages) == total
        return [
            (str(each.topic()), int(each.partition() or 0), bytes(each.value() or b"")) for each in messages
        ]
    finally:
        consumer.close()


def read(ledger: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in ledger.read_bytes().splitlines()]


def test_the_ledger_holds_one_line_for_each_record_on_kafka(
    kafka: str, topics: dict[str, str], tmp_path: Path
) -> None:
    said: list[str] = []
    began = time.time()
    sent = send_traffic(kafka, mix(topics), duration=3, ledger=tmp_path / "ledger", say=said.append)
    lines, records = read(tmp_path / "ledger"), on_kafka(kafka, topics)

    assert sent == len(lines) == len(records) == pytest.approx(1500, rel=0.15)
    places = Counter((line["topic"], line["partition"]) for line in lines)
    assert places == Counter((topic, partition) for topic, partition, _ in records)
    assert len(places) == 2 * local_kafka.PARTITIONS

    whole = Counter(orjson.dumps(line["event"]) for line in lines if line["sort"] != "malformed")
    assert whole - Counter(value for _, _, value in records) == Counter()
    assert {line["sort"] for line in lines} == {"ok", "late", "duplicate", "malformed"}
    assert all((line["reason"] is not None) == (line["sort"] == "malformed") for line in lines)
    assert all(began * 1000 - 1 <= line["sent_at"] <= time.time() * 1000 for line in lines)
    assert said == ["traffic: 500 events/s, seed 3"]


def test_five_thousand_events_a_second_leave_most_of_a_core_free(kafka: str, topics: dict[str, str]) -> None:
    cpu, began = time.process_time(), time.monotonic()
    sent = send_traffic(kafka, mix(topics, rate=5000), duration=3, say=lambda _: None)
    assert sent == pytest.approx(15_000, rel=0.15)
    assert (time.process_time() - cpu) / (time.monotonic() - began) < 0.5


def test_traffic_ends_when_it_is_told_to(kafka: str, topics: dict[str, str]) -> None:
    stopping = Event()
    traffic = Thread(
        target=send_traffic, args=(kafka, mix(topics)), kwargs={"stopping": stopping, "say": lambda _: None}
    )
    traffic.start()
    stopping.set()
    traffic.join(timeout=10)
    assert not traffic.is_alive()


def test_a_topic_that_does_not_exist_is_named(kafka: str) -> None:
    with pytest.raises(StackError, match="topic nowhere does not exist"):
        send_traffic(kafka, mix({"interactions": "nowhere"}), duration=1, say=lambda _: None)


def test_a_ledger_that_cannot_be_written_is_named(kafka: str, topics: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"the ledger .*missing/ledger cannot be written"):
        send_traffic(
            kafka, mix(topics), duration=1, ledger=tmp_path / "missing" / "ledger", say=lambda _: None
        )


@pytest.mark.server
def test_a_broker_that_dies_and_comes_back_costs_no_record_and_duplicates_none(
    data_dir: Path, jars: Path
) -> None:
    [port] = free_ports(1)
    bootstrap, topics = local_kafka.bootstrap(port), {"interactions": "interactions", "orders": "orders"}
    stopping, said, born = Event(), list[str](), list[Identity]()
    supervisor = Supervisor(print, lambda _, identity: born.append(identity), Event())
    try:
        supervisor.start(local_kafka.kafka_component(data_dir, port, data_dir / "log", jars))
        local_kafka.create_topics(bootstrap, topics.values())
        ledger = data_dir / "ledger"
        traffic = Thread(
            target=send_traffic,
            args=(bootstrap, mix(topics)),
            kwargs={"ledger": ledger, "say": said.append, "stopping": stopping},
        )
        traffic.start()
        assert eventually(lambda: "traffic: 500 events/s, seed 3" in said)
        psutil.Process(born[0].pid).kill()
        assert eventually(lambda: any("the broker is away" in line for line in said))
        supervisor.tend(0.0)
        supervisor.tend(1.0)
        assert eventually(lambda: "traffic: the broker is back" in said)
        stopping.set()
        traffic.join(timeout=30)
        assert len(read(ledger)) == len(on_kafka(bootstrap, topics)) > 500
    finally:
        stopping.set()
        supervisor.stop()


def eventually(condition: Any, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
