"""An Apache Kafka broker for one machine: KRaft mode, broker and controller in one process."""

from __future__ import annotations

import os
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from uuid import UUID, uuid4

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from metrics_platform.errors import StackError
from metrics_platform.local.java import java
from metrics_platform.local.ports import HOST, free_ports
from metrics_platform.local.process import MARKER, Component, last_line

PARTITIONS = 2  # each is a task of every iteration, and a machine of two cores gains nothing from more
TOPIC_SECONDS = 30.0  # a new topic takes milliseconds; a machine under load, seconds
LOOK_AGAIN = 0.05  # seconds between two questions whether a topic is ready

# One node, so every internal topic has one replica. A broker that was killed may register again when its old
# session has ended, so that is short. Three days: longer than any interruption that a
# person sleeps through, and the raw store keeps everything anyway.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={logs}
num.partitions={partitions}
auto.create.topics.enable=false
log.retention.hours=72
log.roll.hours=24
log.message.timestamp.type=CreateTime
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=3000
"""

LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


def bootstrap(port: int) -> str:
    """The address that Kafka clients are given."""
    return f"{HOST}:{port}"


def kafka_component(data_dir: Path, port: int, log: Path, jars: Path) -> Component:
    """The broker over the data in `data_dir`/kafka (formatted when new), ready to be started.

    `jars` is the folder that holds kafka/. Raises StackError when Java or the jars are missing.
    """
    jars = jars.resolve()  # the broker works in a directory of its own
    if not any((jars / "kafka").glob("kafka_*.jar")):
        raise StackError(f"no Kafka broker in {jars / 'kafka'}; run make setup, or set METRICS_PLATFORM_JARS")
    folder = data_dir / "kafka"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    properties, logging = folder / "server.properties", folder / "log4j2.properties"
    # The controller's port is nobody else's business and may change with each start.
    properties.write_text(
        PROPERTIES.format(
            host=HOST,
            port=port,
            controller_port=_controller_port(port),
            logs=folder / "logs",
            partitions=PARTITIONS,
        )
    )
    logging.write_text(LOGGING)
    program = (
        str(java()), "-Xms256m", "-Xmx512m", f"-Dlog4j2.configurationFile={logging}",
        "-cp", str(jars / "kafka" / "*"),
    )  # fmt: skip
    environment = {**_java_environment(), MARKER: str(data_dir)}
    if not (folder / "logs" / "meta.properties").exists():
        _format(program, properties, environment, log)
    probe = AdminClient({"bootstrap.servers": bootstrap(port), "log_level": 0})
    return Component(
        name="kafka",
        command=(*program, "kafka.Kafka", str(properties)),
        environment=environment,
        directory=folder,
        log=log,
        ready=lambda: _answers(probe),
        port=port,
        stop_within=30.0,  # it flushes and closes its logs
    )


def cluster_id(uuid: UUID) -> str:
    """A cluster's id as Kafka writes them, from a UUID.

    It never begins with a dash, which Kafka's formatting tool would take for an option.
    """
    return urlsafe_b64encode(uuid.bytes).decode().rstrip("=").replace("-", "_")


def create_topics(bootstrap_servers: str, topics: Iterable[str], partitions: int = PARTITIONS) -> list[str]:
    """Create the topics that are missing; returns their names. On return all of them can be written to.

    Raises StackError when the broker refuses or does not get ready in time.
    """
    wanted = list(dict.fromkeys(topics))
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    there = admin.list_topics(timeout=10).topics
    missing = [topic for topic in wanted if topic not in there]
    if missing:
        pending = admin.create_topics([NewTopic(topic, partitions, 1) for topic in missing])
        for topic, result in pending.items():
            _confirm(bootstrap_servers, topic, result)
    _wait_for_leaders(admin, wanted)
    return missing


def _confirm(bootstrap_servers: str, topic: str, result: Future[None]) -> None:
    try:
        result.result(timeout=TOPIC_SECONDS)
    except KafkaException as error:
        problem: KafkaError = error.args[0]
        if problem.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise StackError(
                f"Kafka at {bootstrap_servers} refuses topic {topic}: {problem.str()}"
            ) from error


def _wait_for_leaders(admin: AdminClient, topics: Iterable[str]) -> None:
    """Wait until every new topic can be written to: a moment after it was made."""
    deadline = time.monotonic() + TOPIC_SECONDS
    for topic in topics:
        while not _has_leaders(admin, topic):
            if time.monotonic() > deadline:
                raise StackError(f"Kafka did not make topic {topic} ready within {TOPIC_SECONDS:.0f} s")
            time.sleep(LOOK_AGAIN)


def _has_leaders(admin: AdminClient, topic: str) -> bool:
    found = admin.list_topics(topic, timeout=10).topics[topic]
    return found.error is None and all(each.leader >= 0 for each in found.partitions.values())


def _controller_port(port: int) -> int:
    """A free port beside the broker's own, which is free too at this moment."""
    return next(free for free in free_ports(2) if free != port)


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def _format(program: tuple[str, ...], properties: Path, environment: Mapping[str, str], log: Path) -> None:
    command = [
        *program,
        "kafka.tools.StorageTool",
        "format",
        "-t",
        cluster_id(uuid4()),
        "-c",
        str(properties),
    ]
    with log.open("ab") as output:
        result = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if result.returncode != 0:
        raise StackError(f"Kafka's data could not be made; {log} ends: {last_line(log)}")


def _java_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "JAVA_HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
