"""Sends the made-up shop's records to Kafka in real time, and keeps a ledger of everything it sent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from threading import Event as Flag

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer

from metrics_platform.errors import StackError
from metrics_platform.local.say import Say
from metrics_platform.local.traffic.shop import Mix, Record, generate, topics_of

__all__ = ["Mix", "Record", "generate", "ledger_line", "send_traffic", "topics_of"]

BATCH_SECONDS = 0.05  # long enough to sleep between two batches, short enough to look continuous
FLUSH_SECONDS = 10.0
BUFFERED = 1_000_000  # records that wait in memory while the broker is away


def ledger_line(record: Record, sent_at: int) -> bytes:
    """The ledger's line for a record: one JSON object, all a judge needs. `sent_at` is in milliseconds."""
    line = {
        "topic": record.topic,
        "partition": record.partition,
        "kind": record.kind,
        "event_id": record.event["event_id"],
        "sort": record.sort,
        "reason": record.reason,
        "sent_at": sent_at,
        "event": record.event,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def send_traffic(
    bootstrap_servers: str,
    mix: Mix,
    duration: float | None = None,
    ledger: Path | None = None,
    say: Say = print,
    stopping: Flag | None = None,
) -> int:
    """Send traffic for `duration` seconds (None: until `stopping` is set); returns the number of records.

    While the broker is away the records wait in memory. Raises StackError when some were not confirmed at
    the end: the ledger then holds more than Kafka.
    """
    stopping = stopping or Flag()
    voice = _Voice(say)
    producer = _producer(bootstrap_servers, voice)
    mix = replace(mix, partitions=_partitions(producer, mix, voice, stopping))
    say(f"traffic: {mix.rate:g} events/s, seed {mix.seed}")
    start = time.time()
    records = generate(mix, start)
    if duration is not None:
        records = takewhile(lambda record: record.at < start + duration, records)
    with _ledger(ledger) as write:
        sent = _send(producer, records, write, voice, stopping)
        unconfirmed = producer.flush(FLUSH_SECONDS)
    if unconfirmed:
        raise StackError(f"Kafka at {bootstrap_servers} did not confirm {unconfirmed} of {sent} records")
    return sent


def _send(
    producer: Producer,
    records: Iterator[Record],
    write: Callable[[Record], None],
    voice: _Voice,
    stopping: Flag,
) -> int:
    sent = 0
    for record in records:
        ahead = record.at - time.time()
        if ahead > 0:
            if stopping.wait(max(ahead, BATCH_SECONDS)):
                break
            producer.poll(0)
            voice.notice(len(producer))
        while True:
            try:
                producer.produce(record.topic, record.value, partition=record.partition)
                break
            except BufferError:  # full: wait for the broker
                producer.poll(BATCH_SECONDS)
                if stopping.is_set():
                    return sent
        write(record)
        sent += 1
    return sent


class _Voice:
    """Tells a person that the broker went away, and that it is back; each only once."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._away = False

    def lost(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._away:  # noqa: SLF001 - its documented name
            self._away = True
            self._say("traffic: the broker is away; records wait in memory until it is back")

    def notice(self, waiting: int) -> None:
        if self._away and waiting == 0:
            self._away = False
            self._say("traffic: the broker is back")


def _producer(bootstrap_servers: str, voice: _Voice) -> Producer:
    quiet = logging.getLogger("metrics_platform.traffic")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False  # `voice` says in one line what librdkafka says in twenty
    return Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,  # a retry is not a second record: the ledger stays exact
            "reconnect.backoff.max.ms": 1000,  # a broker on the same machine: look for it often
            "message.timeout.ms": 0,  # none is given up, however long the broker is away
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": BUFFERED,
            "error_cb": voice.lost,
            "logger": quiet,
        }
    )


def _partitions(producer: Producer, mix: Mix, voice: _Voice, stopping: Flag) -> int:
    """The partitions that all topics have. Waits for the broker; raises StackError for a missing topic."""
    while True:
        try:
            there = producer.list_topics(timeout=1).topics
            break
        except KafkaException as error:
            voice.lost(error.args[0])
            if stopping.is_set():
                return mix.partitions
    missing = [topic for topic in mix.topics.values() if topic not in there]
    if missing:
        raise StackError(
            f"topic {missing[0]} does not exist; `metrics-platform up` creates those of its catalogue"
        )
    return min(len(there[topic].partitions) for topic in mix.topics.values())


@contextmanager
def _ledger(path: Path | None) -> Iterator[Callable[[Record], None]]:
    """A function that writes a record's line; the lines are on disk when the context ends."""
    if path is None:
        yield lambda _record: None
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise StackError(
            f"the ledger {path} cannot be written ({error.strerror}); name another --ledger"
        ) from error
    with file:
        yield lambda record: _write(file.write, record)


def _write(write: Callable[[bytes], int], record: Record) -> None:
    write(ledger_line(record, int(time.time() * 1000)))
