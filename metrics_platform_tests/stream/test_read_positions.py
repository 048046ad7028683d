"""Where the stream reads on: from the ends that it was told, not from the times of records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metrics_platform.catalog.windows import MINUTE
from metrics_platform.events.kafka.offsets import Bounds, Lack
from metrics_platform.stream.iteration import CLOCK_SKEW
from metrics_platform.stream.missing_inputs import part_lost
from metrics_platform.stream.read_positions import OLDEST, ReadPositions

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GRACE = timedelta(seconds=1)


def bound(end: int, start: int = 0, partition: int = 0, held: int = 0, topic_id: str = "first") -> Bounds:
    return Bounds("local", "visits", partition, start, end, end + held, topic_id)


def minute_by_minute(*ends: int, held: int = 0) -> ReadPositions:
    """Asked as each minute after noon has closed."""
    positions = ReadPositions()
    for number, end in enumerate(ends):
        positions.note([bound(end, held=held)], [], NOON + number * MINUTE + GRACE)
    return positions


def test_a_minute_begins_at_the_ends_of_the_last_minute_but_one_before_it() -> None:
    """What was told at 12:03:01, as 12:02 had closed, lies behind the first records of 12:03."""
    positions = minute_by_minute(100, 200, 300, 400)
    assert positions.start(bound(500), NOON + 3 * MINUTE - CLOCK_SKEW) == 300
    # Asked late, because an iteration took its time, the ends may lie behind records of the minute.
    positions.note([bound(450)], [], NOON + 4 * MINUTE - CLOCK_SKEW / 2)
    assert positions.start(bound(500), NOON + 4 * MINUTE - CLOCK_SKEW) == 400


def test_nothing_is_known_before_the_first_ends_and_after_a_gap() -> None:
    positions = minute_by_minute(100)
    assert positions.start(bound(500), NOON) is None
    told = NOON + GRACE
    assert positions.start(bound(500), told + OLDEST) == 100
    assert positions.start(bound(500), told + OLDEST + timedelta(seconds=1)) is None
    assert ReadPositions().start(bound(500), NOON) is None


def test_a_new_partition_and_a_topic_made_anew_begin_at_their_first_record() -> None:
    positions = minute_by_minute(100)
    after = NOON + 2 * MINUTE
    assert positions.start(bound(7, partition=1), after) == 0
    assert positions.start(bound(7, start=3, partition=1), after) == 3
    assert positions.start(bound(500, topic_id="anew"), after) == 0


def test_what_could_not_be_had_is_looked_up_by_time() -> None:
    after = NOON + 2 * MINUTE
    for partition in (1, None):
        positions = ReadPositions()
        positions.note([bound(100)], [Lack("local", "visits", partition, "why")], NOON)
        assert positions.start(bound(7, partition=1), after) is None
        assert positions.start(bound(500), after) == 100
    elsewhere = replace(bound(500), cluster="far")
    assert minute_by_minute(100).start(elsewhere, after) is None


def test_positions_stay_within_what_kafka_has() -> None:
    positions = minute_by_minute(100)
    after = NOON + 2 * MINUTE
    assert positions.start(bound(500, start=200), after) == 200
    assert positions.start(bound(50), after) == 50


def test_a_partition_that_a_transaction_holds_for_long_is_said_and_read_by_time_afterwards() -> None:
    open_one = bound(100, held=5)
    positions = minute_by_minute(100, held=5)
    assert positions.held([open_one]) == []  # perhaps it ends at once
    positions.note([open_one], [], NOON + MINUTE + GRACE)
    assert positions.held([open_one]) == [open_one]
    assert positions.start(bound(900), NOON + 3 * MINUTE) is None
    # It got on, although the next transaction is open.
    positions.note([bound(150, held=5)], [], NOON + 2 * MINUTE + GRACE)
    assert positions.held([bound(150, held=5)]) == []
    assert positions.start(bound(900), NOON + 4 * MINUTE) == 150


def test_a_quiet_partition_is_not_held() -> None:
    assert minute_by_minute(100, 100, 100).held([bound(100)]) == []


def test_topics_and_their_partitions_have_equal_shares_of_what_is_lost() -> None:
    there = [bound(9), bound(9, partition=1), replace(bound(9), topic="clicks")]
    whole, part = Lack("local", "clicks", None, "why"), Lack("local", "visits", 1, "why")
    topics = ("visits", "clicks")
    assert part_lost(topics, "local", [], there) == 0
    assert part_lost(topics, "local", [whole], there[:2]) == 0.5
    assert part_lost(topics, "local", [part], there) == 0.25  # of what is there, it is held back
    assert part_lost(topics, "local", [part], [there[0], there[2]]) == 0.25
    assert part_lost(topics, "local", [whole, part], there[:1]) == 0.75
    assert part_lost(topics, "far", [whole, part], there) == 0
