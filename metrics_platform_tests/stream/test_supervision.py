"""The rule that keeps one shift at work, told as the lives of shifts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.store.state.lease import Lease
from metrics_platform.stream import supervision
from metrics_platform.stream.supervision import (
    FIRST_WAIT,
    LONGEST_WAIT,
    LOOK_EVERY,
    READABLE_WITHIN,
    SILENCE,
    WARM_UP,
    NextAction,
    ShiftRun,
    next_action,
)

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
LENGTH = timedelta(hours=1)
TTL = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def lease(
    holder: str | None,
    acquired: datetime,
    renewed: datetime,
    successor: str | None = None,
    ready: datetime | None = None,
) -> Lease:
    expires = renewed + TTL if holder else renewed
    return Lease("stream", holder, 1, TTL, acquired, expires, None, successor, ready, None)


def run(name: str, since: datetime) -> ShiftRun:
    return ShiftRun(name, since)


def decision(
    now: datetime, held: Lease | None, *running: ShiftRun, fruitless: tuple[datetime, ...] = ()
) -> NextAction:
    return next_action(now, held, running, fruitless, LENGTH)


WARMS_UP = "a shift is warming up or ending"
NONE = "no shift is at work"
WORKS = "the shift at work will need a successor"


def test_the_first_shift_starts_at_once_and_alone() -> None:
    assert decision(START, None) == NextAction(START, NONE)
    warming = run("first", START)
    for seconds in (0, 5, 90):
        assert decision(START + seconds * SECOND, None, warming) == NextAction(None, WARMS_UP)


def test_a_shift_at_work_is_left_alone_until_its_successor_must_warm_up() -> None:
    first = run("first", START)
    taken = START + MINUTE
    due = taken + LENGTH - WARM_UP
    for now in (due - SECOND, due):
        made = decision(now, lease("first", taken, now), first)
        assert made == NextAction(due, WORKS)
        assert made.is_due(now) is (now == due)


def test_one_successor_warms_up_waits_and_takes_over() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    handed_over = START + LENGTH + 2 * MINUTE

    warming = START + LENGTH + 30 * SECOND
    assert decision(warming, lease("first", START, warming), first, second).at is None

    waiting = START + LENGTH + 2 * MINUTE
    announced = lease("first", START, waiting, "second", waiting - SECOND)
    assert decision(waiting, announced, first, second) == NextAction(None, WARMS_UP)

    later = handed_over + 5 * MINUTE
    assert decision(later, lease("second", handed_over, later), second) == NextAction(
        handed_over + LENGTH - WARM_UP, WORKS
    )


def test_a_successor_may_wait_for_long_as_long_as_it_says_so() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    now = START + LENGTH + 9 * MINUTE
    patient = lease("first", START, now, "second", now - SECOND)
    assert decision(now, patient, first, second).fail == ()
    silent = lease("first", START, now, "second", now - SILENCE)
    assert decision(now, silent, first, second).fail == ("second",)


def test_a_shift_that_has_just_handed_over_ends_in_peace() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    handed_over = START + LENGTH + 2 * MINUTE
    now = handed_over + 5 * SECOND
    assert decision(now, lease("second", handed_over, now), first, second).fail == ()
    # Unless it never ends.
    now = handed_over + SILENCE
    assert decision(now, lease("second", handed_over, now), first, second).fail == ("first",)


def test_a_shift_that_has_just_given_the_lease_up_ends_in_peace() -> None:
    first = run("first", START)
    given_up = START + LENGTH
    assert decision(given_up + SECOND, lease(None, START, given_up), first) == NextAction(None, WARMS_UP)
    silent = given_up + SILENCE
    assert decision(silent, lease(None, START, given_up), first) == NextAction(silent, NONE, ("first",))


def test_a_candidate_that_hangs_is_buried_and_replaced() -> None:
    hung = run("hung", START)
    assert decision(START + SILENCE - SECOND, None, hung) == NextAction(None, WARMS_UP)
    assert decision(START + SILENCE, None, hung) == NextAction(START + SILENCE, NONE, ("hung",))


def test_a_hung_successor_is_buried_and_another_warms_up_while_the_shift_works_on() -> None:
    first, hung = run("first", START), run("hung", START + LENGTH - WARM_UP)
    now = hung.since + SILENCE
    assert decision(now, lease("first", START, now), first, hung) == NextAction(
        START + LENGTH - WARM_UP, WORKS, ("hung",)
    )


def test_a_dead_holder_is_buried_some_time_after_its_lease_expired_and_replaced() -> None:
    dead = run("dead", START)
    last_sign = START + 10 * MINUTE
    held = lease("dead", START, last_sign)
    # It may still be computing a slow minute: nobody else starts.
    assert decision(last_sign + TTL, held, dead) == NextAction(START + LENGTH - WARM_UP, WORKS)
    silent = last_sign + TTL + SILENCE
    assert decision(silent - SECOND, held, dead).fail == ()
    assert decision(silent, held, dead) == NextAction(silent, NONE, ("dead",), free=True)


def test_a_holder_whose_run_has_ended_is_replaced_at_once_and_its_lease_is_freed() -> None:
    now = START + 10 * MINUTE
    assert decision(now, lease("gone", START, now)) == NextAction(now, NONE, free=True)
    # Its successor, which waits already, need not wait until the lease expires.
    second = run("second", START)
    announced = lease("gone", START, now, "second", now)
    assert decision(now, announced, second) == NextAction(None, WARMS_UP, free=True)
    # Who has the lease keeps it.
    assert not decision(now, lease("second", START, now), second).free


def test_two_shifts_never_warm_up_beside_each_other() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    for seconds in range(0, 600, 5):
        now = START + LENGTH + seconds * SECOND
        made = decision(now, lease("first", START, now), first, second)
        assert not made.is_due(now) or "second" in made.fail


@pytest.mark.parametrize(
    ("count", "pause"),
    [(1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (3, LONGEST_WAIT), (4, LONGEST_WAIT), (1000, LONGEST_WAIT)],
)
def test_after_starts_that_committed_nothing_the_next_one_waits_longer_each_time(
    count: int, pause: timedelta
) -> None:
    fruitless = tuple(START - n * MINUTE for n in range(count))
    reason = f"{count} start{'s' if count > 1 else ''} committed nothing"
    waiting = decision(START + pause - SECOND, None, fruitless=fruitless)
    assert waiting == NextAction(START + pause, reason)
    assert not waiting.is_due(START + pause - SECOND)
    assert decision(START + pause, None, fruitless=fruitless).is_due(START + pause)


def test_a_successor_that_fails_again_and_again_is_not_started_at_every_tick() -> None:
    first = run("first", START)
    now = START + LENGTH
    held = lease("first", START, now)
    fruitless = (now - SECOND, now - MINUTE)
    after = now - SECOND + 2 * FIRST_WAIT
    assert decision(now, held, first, fruitless=fruitless) == NextAction(after, "2 starts committed nothing")
    assert decision(after, held, first, fruitless=fruitless).is_due(after)


def test_a_successor_that_failed_long_ago_is_due_in_its_time() -> None:
    first = run("first", START)
    held = lease("first", START, START + MINUTE)
    assert decision(START + MINUTE, held, first, fruitless=(START,)).at == START + LENGTH - WARM_UP


ENDS = st.lists(st.integers(0, 100_000), min_size=1, max_size=12).map(
    lambda ages: tuple(START - age * SECOND for age in sorted(ages))
)


@given(ENDS, st.integers(0, 300))
def test_the_stream_is_back_in_time_however_often_it_failed(ends: tuple[datetime, ...], later: int) -> None:
    """Whatever stopped the starts may end right after the newest one failed, or at any time after."""
    ended = START + later * SECOND
    made = decision(ended, None, fruitless=ends)
    assert made.at is not None
    looked = max(made.at, ended) + LOOK_EVERY
    assert looked + supervision.START - ended < READABLE_WITHIN


@given(ENDS)
def test_one_more_start_that_committed_nothing_never_shortens_the_wait(ends: tuple[datetime, ...]) -> None:
    def wait(fruitless: tuple[datetime, ...]) -> timedelta:
        made = decision(fruitless[0], None, fruitless=fruitless)
        assert made.at is not None
        return made.at - fruitless[0]

    assert wait((START + SECOND, *ends)) >= wait(ends)


def test_past_its_end_a_shift_without_successor_still_gets_one() -> None:
    first = run("first", START)
    now = START + LENGTH + 5 * MINUTE
    assert decision(now, lease("first", START, now), first).is_due(now)
