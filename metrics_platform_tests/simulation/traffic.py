"""Draws a week's records: late, repeated, out of order, malformed, at window boundaries, with wrong clocks.

In some weeks a producer's clock is far ahead, and transactions are aborted, some of them after hours. In some
weeks Kafka drops records of a partition, whether they were ingested or not.

A record has three times: when its event happened, when it arrives at its broker, and the time of its
producer's clock when it was sent (its Kafka time). The records are in the order of arrival, which gives their
offsets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from metrics_platform_tests.simulation.fields import FieldRule
from metrics_platform_tests.simulation.world import FUTURE_BOUND, Kind, World

PARTITIONS = 2
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How far producers' clocks are wrong: most are right, some are fast or slow by less than FUTURE_BOUND.
_SKEWS = (*[timedelta()] * 6, 2 * SECOND, -3 * SECOND, 100 * SECOND, -2 * MINUTE)
_BUSY_HOURS = (10, 10, 12, 12, 15, 15, 20, 20, 30)
# In a share of the weeks late events are spread evenly: of every hour some come at any time until the end.
_EVEN_WEEKS, _EVEN_LATE, _EVEN_BUSY_HOURS = 0.25, 0.1, 20
# In a share of the weeks some records of one cluster are stamped up to an hour ahead.
_AHEAD_WEEKS, _AHEAD = 0.3, 0.05
# In a share of the weeks transactions are aborted; a part of them is open for hours before.
_ABORTED_WEEKS, _HANGING = 0.4, 0.3
# In a share of the weeks Kafka drops records.
_DROPPING_WEEKS = 0.3
# The shares of special records.
_BOUNDARY, _MALFORMED, _REPEATED, _CHANGED, _NULL = 0.03, 0.02, 0.06, 0.15, 0.08
_BROKEN = (b"no json", b"{", b"[]", b'"text"', b"12", b"{}{}", b"[{}]", b"null", b"{'a': 1}", b'{"a": NaN}')


@dataclass(frozen=True)
class Record:
    """One record as it is sent."""

    kind: str
    cluster: str
    topic: str
    partition: int
    arrival: datetime
    kafka_time: datetime
    value: bytes | None
    event_id: str | None = None
    event_time: datetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict)  # field name -> value
    reason: str | None = None  # why the record must be rejected; None for an event
    offset: int = -1

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Where it is on Kafka: cluster, topic, partition, offset."""
        return (self.cluster, self.topic, self.partition, self.offset)


@dataclass(frozen=True)
class BrokerOutage:
    """A cluster that takes no records from `start` to `end`. Its records arrive afterwards."""

    cluster: str
    start: datetime
    end: datetime
    buffered: bool  # whether the records keep the Kafka time at which they should have been sent


@dataclass(frozen=True)
class Aborted:
    """A transaction on one partition that is aborted: nobody may count its records."""

    cluster: str
    topic: str
    partition: int
    start: datetime  # when its records are written
    end: datetime  # when it is aborted; until then it holds back what is written behind its records
    values: tuple[bytes, ...]


@dataclass(frozen=True)
class Dropped:
    """The records of a partition before an offset, which Kafka drops at a time.

    The first record that is left is not stamped before the last one that is dropped arrived.
    """

    kind: str
    cluster: str
    topic: str
    partition: int
    offset: int
    at: datetime
    left_since: datetime  # the Kafka time of the first record that is left

    def includes(self, record: Record) -> bool:
        """Whether Kafka drops the record."""
        same = (record.cluster, record.topic, record.partition) == (self.cluster, self.topic, self.partition)
        return same and record.offset < self.offset


@dataclass(frozen=True)
class Sending:
    """Something that is sent to a broker, at its place in the order of all."""

    at: datetime
    what: Record | Aborted
    aborts: bool = False  # whether the transaction ends here; otherwise its records are written


@dataclass(frozen=True)
class Traffic:
    """All records of a week."""

    sendings: tuple[Sending, ...]  # in the order of arrival
    last: datetime  # no record arrives after this time
    even: bool  # whether late events are spread evenly over the week
    dropped: tuple[Dropped, ...]

    @property
    def records(self) -> list[Record]:
        """What anybody may read, in the order of arrival."""
        return [sending.what for sending in self.sendings if isinstance(sending.what, Record)]


def draw_traffic(world: World, busy_hours: int | None = None) -> Traffic:
    """Draw the records of a seed's world.

    Most events happen in `busy_hours` hours; the seed draws how many, unless the number is given.
    """
    random = world.random("traffic")
    last = world.end + timedelta(hours=random.randint(1, 12))
    silence = _span(random, world, 8)
    hours = range((world.end - world.start) // HOUR)
    # In most weeks events happen in some hours only, so that minutes have several events. A week costs what
    # its hours cost.
    number = busy_hours or random.choice((*_BUSY_HOURS, len(hours)))
    even = world.random("lateness").random() < _EVEN_WEEKS
    # Each batch of an even week computes most of its busy hours again.
    busy = random.sample(hours, min(number, _EVEN_BUSY_HOURS) if even else number)
    # Only events of few hours are hours or days late, as if a fleet of devices had been offline.
    slow = frozenset(random.sample(busy, 10))
    made: list[Record] = []
    for kind in world.kinds:
        for _ in range(random.randint(1000, 4000)):
            happened = _happened(random, world, kind, busy)
            if not silence[0] <= happened < silence[1]:
                made += _Sender(random, world, kind, last, slow, even).send(happened)
    for outage in _outages(random, world):
        made = [_delayed(random, record, outage, last) for record in made]
    made = _stamped_ahead(world, made)
    sendings = [Sending(record.arrival, record) for record in made]
    for one in _transactions(world, made, last):
        sendings += Sending(one.start, one), Sending(one.end, one, aborts=True)
    ordered = tuple(_with_offsets(sorted(sendings, key=lambda sending: sending.at)))
    return Traffic(ordered, last, even, tuple(_dropped(world, ordered)))


def _span(random: Random, world: World, hours: int) -> tuple[datetime, datetime]:
    start = world.start + random.random() * (world.end - world.start)
    return start, start + random.uniform(0.2, 1) * hours * HOUR


def _happened(random: Random, world: World, kind: Kind, busy: Sequence[int]) -> datetime:
    """When an event happens: in a busy hour, often in one of the first four, sometimes at a window boundary.

    `busy` holds hours, counted from the week's start. An event at a boundary happens exactly at it or just
    before.
    """
    tick = timedelta(milliseconds=1) if kind.time_type == "epoch_millis" else timedelta(microseconds=1)
    hour = random.choice(busy[:4] if random.random() < 0.2 else busy)
    at = world.start + hour * HOUR + random.random() * HOUR
    if random.random() < _BOUNDARY:
        whole = random.choice((MINUTE, 15 * MINUTE, HOUR))
        at -= (at - _EPOCH) % whole
        at = random.choice((at, at, world.midnight(random.randint(0, 7))))
        at -= random.choice((0, 0, 1)) * tick
    at -= (at - _EPOCH) % tick
    return max(world.start, min(at, world.end))


@dataclass(frozen=True)
class _Sender:
    """Draws the records of one event."""

    random: Random
    world: World
    kind: Kind
    last: datetime  # no record arrives later
    slow: frozenset[int]  # the hours, counted from the week's start, whose events may be very late
    even: bool  # whether events of every hour may be very late

    def send(self, happened: datetime) -> Iterator[Record]:
        event_id = self._event_id()
        record = self._event(event_id, happened)
        if self.random.random() < _MALFORMED:
            yield self._malformed(record)
            return
        yield record
        while self.random.random() < _REPEATED:
            yield self._again(record)

    def _event_id(self) -> str:
        return f"{self.random.getrandbits(48):x}" if self.random.random() < 0.98 else self._odd_id()

    def _odd_id(self) -> str:
        return f"'{self.random.getrandbits(32)} \N{OWL}\"\\"

    def _event(self, event_id: str, happened: datetime) -> Record:
        drawn = {rule.name: self._draw(rule) for rule in self.kind.fields}
        texts = {name: text for name, (_, text) in drawn.items()}
        arrival = min(happened + self._delay(happened), self.last)
        skew = self.random.choice(_SKEWS)
        # The event time may lie in the future too, but by no more than FUTURE_BOUND.
        earliest = happened + (_EPOCH - happened) % timedelta(milliseconds=1) - FUTURE_BOUND
        arrival = max(arrival, earliest - min(skew, timedelta()))
        return Record(
            kind=self.kind.name,
            cluster=self.random.choice(self.kind.clusters),
            topic=self.random.choice(self.kind.topics),
            partition=self.random.randrange(PARTITIONS),
            arrival=arrival,
            kafka_time=_millis(arrival + skew),
            value=self._json(event_id, self._time_text(happened), texts),
            event_id=event_id,
            event_time=happened,
            values={name: value for name, (value, _) in drawn.items()},
        )

    def _draw(self, rule: FieldRule) -> tuple[Any, str | None]:
        if rule.name not in self.kind.required and self.random.random() < _NULL:
            return None, self.random.choice(("null", None))
        return rule.draw(self.random)

    def _delay(self, happened: datetime) -> timedelta:
        """The time from the event to its arrival.

        It is a little below zero if the clock of the event is fast.
        """
        if self.even and self.random.random() < _EVEN_LATE:
            return self.random.random() * (self.last - happened)
        weights = (2, 50, 13, 20, 15) if self._is_slow(happened) else (2, 85, 13, 0, 0)
        longest = self.random.choices((-4 * MINUTE, 5 * SECOND, 5 * MINUTE, 6 * HOUR, 6 * DAY), weights)[0]
        return self.random.random() * longest

    def _is_slow(self, happened: datetime) -> bool:
        return (happened - self.world.start) // HOUR in self.slow

    def _time_text(self, happened: datetime) -> str:
        if self.kind.time_type == "epoch_millis":
            return str((happened - _EPOCH) // timedelta(milliseconds=1))
        zone = self.random.choice((UTC, self.world.zone))
        return f'"{happened.astimezone(zone).isoformat()}"'

    def _json(self, event_id: str, time: str, texts: Mapping[str, str | None]) -> bytes:
        parts = [
            (self.kind.id_field, json.dumps(event_id)),
            (self.kind.time_field, time),
            ("more", self.random.choice(("1", '{"a": [null, "}"]}', '""'))),
            *((name, text) for name, text in texts.items() if text is not None),
        ]
        self.random.shuffle(parts)
        colon, comma = self.random.choice(((":", ","), (": ", ", "), ("\t:\n", " ,\r\n")))
        value = ("{" + comma.join(f'"{name}"{colon}{text}' for name, text in parts) + "}").encode()
        # A byte that is no UTF-8 is read as U+FFFD, so it has the same meaning.
        return value.replace("\ufffd".encode(), b"\xff") if self.random.random() < 0.5 else value

    def _again(self, record: Record) -> Record:
        """The event redelivered: on any of its clusters, soon or much later, sometimes changed."""
        assert record.event_time is not None  # only events are sent again
        assert record.event_id is not None
        longest = 2 * DAY if self._is_slow(record.event_time) else MINUTE
        pause = self.random.choice((SECOND, longest)) * self.random.random()
        if self.random.random() < _CHANGED:
            moved = record.event_time + self.random.choice((0, 0, 1, 60)) * MINUTE
            return self._event(record.event_id, min(moved, self.world.end))
        arrival = max(min(record.arrival + pause, self.last), record.arrival)
        stamped = self.random.choice((record.kafka_time, _millis(arrival)))
        return replace(
            record,
            cluster=self.random.choice(self.kind.clusters),
            topic=self.random.choice(self.kind.topics),
            partition=self.random.randrange(PARTITIONS),
            arrival=arrival,
            kafka_time=max(stamped, record.kafka_time),
        )

    def _malformed(self, record: Record) -> Record:
        """The record with exactly one mistake."""
        ways = [self._empty, self._broken, self._missing, self._wrong_type, self._future]
        value, reason = self.random.choice(ways)(record)
        return replace(record, value=value, reason=reason, event_id=None, event_time=None, values={})

    def _empty(self, _record: Record) -> tuple[bytes | None, str]:
        return self.random.choice((None, b"")), "empty record"

    def _broken(self, record: Record) -> tuple[bytes, str]:
        whole = record.value or b""
        return self.random.choice(
            (*_BROKEN, whole[:-1], whole + whole, b"[" + whole + b"]")
        ), "no JSON object"

    def _missing(self, record: Record) -> tuple[bytes, str]:
        name = self.random.choice((self.kind.id_field, self.kind.time_field, *sorted(self.kind.required)))
        content = self._parts(record) | {name: self.random.choice((None, "null"))}
        if name == self.kind.id_field and self.random.random() < 0.3:
            content[name] = '""'
        return self._joined(content), f"missing field {name}"

    def _wrong_type(self, record: Record) -> tuple[bytes, str]:
        wrong = {rule.name: rule.wrong for rule in self.kind.fields if rule.wrong}
        wrong[self.kind.time_field] = ('"soon"', "true", "{}")
        name = self.random.choice(sorted(wrong))
        content = self._parts(record) | {name: self.random.choice(wrong[name])}
        return self._joined(content), f"wrong type in field {name}"

    def _future(self, record: Record) -> tuple[bytes, str]:
        ahead = self.random.choice((timedelta(milliseconds=1), HOUR, 400 * DAY))
        time = self._time_text(record.kafka_time + FUTURE_BOUND + ahead)
        content = self._parts(record) | {self.kind.time_field: time}
        return self._joined(content), "event time in the future"

    def _parts(self, record: Record) -> dict[str, str | None]:
        """The record's fields as JSON texts."""
        drawn = {rule.name: rule.draw(self.random)[1] for rule in self.kind.fields}
        assert record.event_time is not None  # the record is not malformed yet
        return drawn | {
            self.kind.id_field: json.dumps(record.event_id),
            self.kind.time_field: self._time_text(record.event_time),
        }

    def _joined(self, content: Mapping[str, str | None]) -> bytes:
        written = (f'"{name}": {text}' for name, text in content.items() if text is not None)
        return ("{" + ", ".join(written) + "}").encode()


def _millis(instant: datetime) -> datetime:
    """Round down to whole milliseconds, because Kafka times are such."""
    return instant - (instant - _EPOCH) % timedelta(milliseconds=1)


def _outages(random: Random, world: World) -> list[BrokerOutage]:
    return [
        BrokerOutage(cluster, *_span(random, world, 20), random.random() < 0.5)
        for cluster in sorted({name for kind in world.kinds for name in kind.clusters})
        if random.random() < 0.4
    ]


def _delayed(random: Random, record: Record, outage: BrokerOutage, last: datetime) -> Record:
    if record.cluster != outage.cluster or not outage.start <= record.arrival < outage.end:
        return record
    arrival = max(min(outage.end + random.random() * 10 * MINUTE, last), record.arrival)
    if outage.buffered or record.reason == "event time in the future":
        return replace(record, arrival=arrival)
    return replace(record, arrival=arrival, kafka_time=max(record.kafka_time, _millis(arrival)))


def _stamped_ahead(world: World, records: list[Record]) -> list[Record]:
    """In some weeks, some records of one cluster are stamped by a clock that is up to an hour ahead.

    Not those of which a copy may come first by its stamp, and none whose reason is a stamp.
    """
    random = world.random("clocks")
    if random.random() >= _AHEAD_WEEKS:
        return records
    cluster = random.choice(sorted({record.cluster for record in records}))
    copies = Counter(record.event_id for record in records)

    def stamped(record: Record) -> Record:
        single = copies[record.event_id] == 1 or record.reason not in (None, "event time in the future")
        if record.cluster != cluster or not single or random.random() >= _AHEAD:
            return record
        return replace(record, kafka_time=record.kafka_time + _millis_of(random, 5 * MINUTE, 55 * MINUTE))

    return [stamped(record) for record in records]


def _transactions(world: World, records: list[Record], last: datetime) -> Iterator[Aborted]:
    """In some weeks, transactions with copies of events under ids of their own, which are aborted."""
    random = world.random("transactions")
    if random.random() >= _ABORTED_WEEKS:
        return
    events = [record for record in records if record.event_id and record.value]
    for number in range(random.randint(2, 5)):
        copied = random.choice(events)
        start = min(copied.arrival + random.random() * MINUTE, last - 2 * SECOND)
        length = random.random() * 8 * HOUR if random.random() < _HANGING else SECOND
        yield Aborted(
            cluster=copied.cluster,
            topic=copied.topic,
            partition=copied.partition,
            start=start,
            end=min(start + length, last - SECOND),
            values=tuple(_renamed(copied, f"aborted-{number}-{n}") for n in range(random.randint(1, 9))),
        )


def _dropped(world: World, sendings: Sequence[Sending]) -> Iterator[Dropped]:
    """In some weeks, the oldest records of one or two partitions at some time.

    Not in weeks with transactions: a record that one holds back is not there yet when others are dropped.
    """
    random = world.random("dropped")
    records = [sending.what for sending in sendings if isinstance(sending.what, Record)]
    if random.random() >= _DROPPING_WEEKS or len(records) < len(sendings):
        return
    for _ in range(random.randint(1, 2)):
        left = random.choice(records)
        found = Dropped(
            left.kind,
            left.cluster,
            left.topic,
            left.partition,
            left.offset,
            left.arrival + random.random() * HOUR,
            left.kafka_time,
        )
        if all(record.arrival <= left.kafka_time for record in records if found.includes(record)):
            yield found


def _renamed(event: Record, event_id: str) -> bytes:
    assert event.value is not None
    return event.value.replace(json.dumps(event.event_id).encode(), json.dumps(event_id).encode())


def _millis_of(random: Random, least: timedelta, most: timedelta) -> timedelta:
    milli = timedelta(milliseconds=1)
    return random.randint(least // milli, most // milli) * milli


def _with_offsets(sendings: list[Sending]) -> Iterator[Sending]:
    """The records with their offsets: a transaction takes one for each record, and one for its end."""
    taken: Counter[tuple[str, str, int]] = Counter()
    for sending in sendings:
        what = sending.what
        place = (what.cluster, what.topic, what.partition)
        if isinstance(what, Record):
            yield replace(sending, what=replace(what, offset=taken[place]))
            taken[place] += 1
        else:
            yield sending
            taken[place] += 1 if sending.aborts else len(what.values)
