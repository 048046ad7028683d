"""The rule that keeps one shift at work, told as the lives of shifts."""

from datetime import UTC, datetime, timedelta

import pytest

from metrics_platform.store.state.lease import Lease
from metrics_platform.stream.supervision import (
    FIRST_WAIT,
    LONGEST_WAIT,
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
    now: datetime, held: Lease | None, *running: ShiftRun, failures: tuple[datetime, ...] = ()
) -> NextAction:
    return next_action(now, held, running, failures, LENGTH)


def test_the_first_shift_starts_at_once_and_alone() -> None:
    assert decision(START, None) == NextAction(True, "no shift is at work")
    warming = run("first", START)
    assert not decision(START + 5 * SECOND, None, warming).start
    assert not decision(START + 90 * SECOND, None, warming).start


def test_a_shift_at_work_is_left_alone_until_its_successor_must_warm_up() -> None:
    first = run("first", START)
    taken = START + MINUTE
    due = taken + LENGTH - WARM_UP

    before = due - SECOND
    assert decision(before, lease("first", taken, before), first) == NextAction(
        False, "the shift has 2 minutes left"
    )
    assert decision(due, lease("first", taken, due), first) == NextAction(
        True, "the shift ends soon; its successor warms up"
    )


def test_one_successor_warms_up_waits_and_takes_over() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    handed_over = START + LENGTH + 2 * MINUTE

    warming = START + LENGTH + 30 * SECOND
    assert not decision(warming, lease("first", START, warming), first, second).start

    waiting = START + LENGTH + 2 * MINUTE
    announced = lease("first", START, waiting, "second", waiting - SECOND)
    assert decision(waiting, announced, first, second) == NextAction(False, "a shift is warming up or ending")

    later = handed_over + 5 * MINUTE
    assert decision(later, lease("second", handed_over, later), second) == NextAction(
        False, "the shift has 55 minutes left"
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
    assert decision(given_up + SECOND, lease(None, START, given_up), first) == NextAction(
        False, "a shift is warming up or ending"
    )
    assert decision(given_up + SILENCE, lease(None, START, given_up), first) == NextAction(
        True, "no shift is at work", ("first",)
    )


def test_a_candidate_that_hangs_is_buried_and_replaced() -> None:
    hung = run("hung", START)
    assert decision(START + SILENCE - SECOND, None, hung) == NextAction(
        False, "a shift is warming up or ending"
    )
    assert decision(START + SILENCE, None, hung) == NextAction(True, "no shift is at work", ("hung",))


def test_a_hung_successor_is_buried_and_another_warms_up_while_the_shift_works_on() -> None:
    first, hung = run("first", START), run("hung", START + LENGTH - WARM_UP)
    now = hung.since + SILENCE
    assert decision(now, lease("first", START, now), first, hung) == NextAction(
        True, "the shift ends soon; its successor warms up", ("hung",)
    )


def test_a_dead_holder_is_buried_some_time_after_its_lease_expired_and_replaced() -> None:
    dead = run("dead", START)
    last_sign = START + 10 * MINUTE
    held = lease("dead", START, last_sign)
    # It may still be computing a slow minute: nobody else starts.
    assert decision(last_sign + TTL, held, dead) == NextAction(False, "the shift has 49 minutes left")
    silent = last_sign + TTL + SILENCE
    assert decision(silent - SECOND, held, dead).fail == ()
    assert decision(silent, held, dead) == NextAction(True, "no shift is at work", ("dead",))


def test_a_holder_whose_run_is_known_to_have_ended_is_replaced_at_once() -> None:
    now = START + 10 * MINUTE
    assert decision(now, lease("gone", START, now)) == NextAction(True, "no shift is at work")


def test_two_shifts_never_warm_up_beside_each_other() -> None:
    first, second = run("first", START), run("second", START + LENGTH)
    for seconds in range(0, 600, 5):
        now = START + LENGTH + seconds * SECOND
        made = decision(now, lease("first", START, now), first, second)
        assert not made.start or "second" in made.fail


@pytest.mark.parametrize(
    ("failed", "pause"),
    [(1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (3, 4 * FIRST_WAIT), (4, 8 * FIRST_WAIT), (10, LONGEST_WAIT)],
)
def test_after_failures_the_next_start_waits_longer_each_time(failed: int, pause: timedelta) -> None:
    failures = tuple(START - n * MINUTE for n in range(failed))
    waiting = decision(START + pause - SECOND, None, failures=failures)
    assert waiting == NextAction(False, f"after {failed} failures the next shift starts in 1 s")
    assert decision(START + pause, None, failures=failures).start


def test_a_thousand_failures_wait_no_longer_than_ten() -> None:
    failures = (START,) * 1000
    assert decision(START + LONGEST_WAIT, None, failures=failures).start


def test_a_successor_that_fails_again_and_again_is_not_started_at_every_tick() -> None:
    first = run("first", START)
    now = START + LENGTH
    held = lease("first", START, now)
    failures = (now - SECOND, now - MINUTE)
    assert decision(now, held, first, failures=failures) == NextAction(
        False, "after 2 failures the next shift starts in 29 s"
    )
    assert decision(now + 29 * SECOND, held, first, failures=failures).start


def test_past_its_end_a_shift_without_successor_still_gets_one() -> None:
    first = run("first", START)
    now = START + LENGTH + 5 * MINUTE
    assert decision(now, lease("first", START, now), first).start
