"""Which minutes an iteration of the stream computes, whenever it wakes up and however long it slept."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.stream.iteration import MAX_MINUTES, minutes, newest_closed, plan_iteration

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

starts = st.integers(-100_000, 100_000).map(lambda n: NOON + n * MINUTE)
behind = st.integers(1, 5_000)


def minute(start: datetime) -> Window:
    return Window(start, start + MINUTE, Grain.MINUTE)


@given(starts, st.none() | st.integers(-3, 5_000))
def test_an_iteration_computes_the_newest_closed_minute_and_at_most_three(
    start: datetime, age: int | None
) -> None:
    made = plan_iteration(None if age is None else start - age * MINUTE, minute(start), LONG_AGO)
    if age is not None and age <= 0:
        assert made is None
        return
    assert made is not None
    assert made.windows[-1] == minute(start)
    assert 1 <= len(made.windows) <= MAX_MINUTES
    assert list(made.windows) == [minute(window.start) for window in made.windows]


@given(starts, behind)
def test_done_minutes_the_gap_and_the_computed_ones_tile_time(start: datetime, age: int) -> None:
    newest_done = start - age * MINUTE
    made = plan_iteration(newest_done, minute(start), LONG_AGO)
    assert made is not None
    first = made.windows[0].start
    if made.gap:
        assert made.gap == (newest_done + MINUTE, first)
        assert made.gap[0] < made.gap[1]
    else:
        # No hole; the newest done minute may be computed once more, none before it.
        assert newest_done <= first <= newest_done + MINUTE
    assert all(one.end == other.start for one, other in pairwise(made.windows))


@given(starts, behind)
def test_a_minute_is_skipped_only_when_more_than_three_are_owed(start: datetime, age: int) -> None:
    made = plan_iteration(start - age * MINUTE, minute(start), LONG_AGO)
    assert made is not None
    assert (made.gap is not None) == (age > MAX_MINUTES)


@given(starts, behind)
def test_nothing_is_left_to_do_after_the_iteration(start: datetime, age: int) -> None:
    made = plan_iteration(start - age * MINUTE, minute(start), LONG_AGO)
    assert made is not None
    assert plan_iteration(made.windows[-1].start, minute(start), LONG_AGO) is None


@given(starts, st.none() | behind, st.integers(-10, 20))
def test_nothing_before_the_catalogues_start_is_computed_or_owed(
    start: datetime, age: int | None, early: int
) -> None:
    since = start - early * MINUTE
    made = plan_iteration(None if age is None else start - age * MINUTE, minute(start), since)
    assert (made is None) == (early < 0)
    if made is None:
        return
    assert made.windows[0].start >= since
    assert made.windows[-1] == minute(start)
    if made.gap:
        assert since <= made.gap[0] < made.gap[1] == made.windows[0].start


def test_a_steady_stream_computes_each_minute_and_once_more_the_one_before() -> None:
    made = plan_iteration(NOON, minute(NOON + MINUTE), LONG_AGO)
    assert made is not None
    assert made.windows == (minute(NOON), minute(NOON + MINUTE))
    assert made.gap is None


def test_the_very_first_iteration_computes_three_minutes_and_owes_none() -> None:
    made = plan_iteration(None, minute(NOON), LONG_AGO)
    assert made is not None
    assert [window.start for window in made.windows] == [NOON - 2 * MINUTE, NOON - MINUTE, NOON]
    assert made.gap is None


def test_after_an_hour_asleep_the_stream_jumps_and_says_what_it_skipped() -> None:
    made = plan_iteration(NOON, minute(NOON + 60 * MINUTE), LONG_AGO)
    assert made is not None
    assert [window.start for window in made.windows] == [NOON + n * MINUTE for n in (58, 59, 60)]
    assert made.gap == (NOON + MINUTE, NOON + 58 * MINUTE)


def test_a_minute_is_closed_once_its_grace_is_over() -> None:
    grace = timedelta(seconds=1.5)
    moment = NOON + MINUTE + grace
    assert newest_closed(moment, grace) == minute(NOON)
    assert newest_closed(moment - timedelta(microseconds=1), grace) == minute(NOON - MINUTE)
    assert newest_closed(NOON, timedelta(0)) == minute(NOON - MINUTE)


@given(starts, st.floats(0, 120, allow_nan=False), st.floats(0.1, 300, allow_nan=False))
def test_the_newest_closed_minute_ended_a_grace_ago_and_the_next_did_not(
    start: datetime, second: float, grace: float
) -> None:
    now, patience = start + timedelta(seconds=second), timedelta(seconds=grace)
    closed = newest_closed(now, patience)
    assert closed.end <= now - patience < closed.end + MINUTE


def test_minutes_of_a_span() -> None:
    assert minutes(NOON, NOON + 2 * MINUTE) == (minute(NOON), minute(NOON + MINUTE))
    assert minutes(NOON, NOON) == ()
