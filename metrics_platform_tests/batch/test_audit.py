"""The books of a window balance, or the difference is named: pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.batch.audit import audit_pass, audit_unit, counted_events
from metrics_platform.catalog.windows import Calendar, Grain
from metrics_platform.compute.totals import Computed
from metrics_platform.store.state.books.event_counts import IngestedCounts

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = Calendar("UTC").window(Grain.HOUR, NOON)
MINUTE = timedelta(minutes=1)

minutes = st.dictionaries(
    st.tuples(st.integers(-5, 64).map(lambda n: NOON + n * MINUTE), st.sampled_from(["dc1", "dc2"])),
    st.tuples(st.integers(0, 50), st.integers(0, 5), st.integers(0, 50)),
    max_size=20,
)


def ingested(numbers: dict[tuple[datetime, str], tuple[int, int]]) -> IngestedCounts:
    whole = {HOUR: tuple(map(sum, zip(*numbers.values(), strict=True)))} if numbers else {}
    return IngestedCounts(4, whole, numbers)  # type: ignore[arg-type]


@given(minutes)
def test_books_balance_if_each_minute_holds_what_was_accepted(
    numbers: dict[tuple[datetime, str], tuple[int, int, int]],
) -> None:
    books = ingested({key: (accepted, again) for key, (accepted, again, _) in numbers.items()})
    duplicates = {key: min(part, accepted + again) for key, (accepted, again, part) in numbers.items()}
    counted = {key: sum(numbers[key][:2]) - duplicates[key] for key in numbers}
    audit = audit_unit("visits", HOUR, books, counted, duplicates)
    assert audit.balanced
    assert audit.found == sum(sum(numbers[key][:2]) for key in numbers if HOUR.contains(key[0]))


@given(minutes.filter(len), st.data())
def test_a_difference_in_one_minute_of_one_cluster_is_named(
    numbers: dict[tuple[datetime, str], tuple[int, int, int]], data: st.DataObject
) -> None:
    inside = [key for key in sorted(numbers) if HOUR.contains(key[0])]
    key = data.draw(st.sampled_from(inside)) if inside else (NOON, "dc1")
    more = data.draw(st.integers(1, 9))
    books = ingested({key: (accepted, again) for key, (accepted, again, _) in numbers.items()})
    counted = {key: sum(numbers[key][:2]) for key in numbers}
    counted[key] = counted.get(key, 0) + more
    audit = audit_unit("visits", HOUR, books, counted, {})
    assert not audit.balanced
    assert f"{key[0]:%H:%M} {key[1]}: {counted[key] - more} against {counted[key]}" in (
        audit.differences or ""
    )


def test_what_one_minute_lacks_another_cannot_make_up_for() -> None:
    books = ingested({(NOON, "dc1"): (5, 0), (NOON + MINUTE, "dc1"): (5, 0)})
    counted = {(NOON, "dc1"): 4, (NOON + MINUTE, "dc1"): 6}
    audit = audit_unit("visits", HOUR, books, counted, {})
    assert (audit.expected, audit.found, audit.balanced) == (10, 10, False)
    assert audit.differences == (
        "ingestion accepted 10 events of 'visits', the raw store gave 10 (0 of them duplicates); "
        "in 12:00 dc1: 5 against 4, 12:01 dc1: 5 against 6 (UTC)"
    )


def test_older_units_are_compared_whole() -> None:
    day = Calendar("UTC").window(Grain.DAY, NOON)
    books = IngestedCounts(4, {day: (7, 1)}, {})
    assert audit_unit("visits", day, books, {(NOON, "dc1"): 5}, {(NOON, "dc2"): 3}).balanced
    short = audit_unit("visits", day, books, {(NOON, "dc1"): 5}, {})
    assert short.differences == (
        "ingestion accepted 8 events of 'visits', the raw store gave 5 (0 of them duplicates)"
    )


def test_kinds_are_audited_apart_and_duplicates_are_read_too() -> None:
    computed = Computed(
        totals={},
        rejected={},
        outside={},
        inside={("visits", "dc1", NOON): 3, ("orders", "dc1", NOON): 9},
        duplicates={("visits", "dc1", NOON): 1},
    )
    books = {"visits": ingested({(NOON, "dc1"): (4, 0)}), "orders": ingested({(NOON, "dc1"): (8, 0)})}
    assert [(one.kind, one.balanced) for one in audit_pass([HOUR], books, computed)] == [
        ("visits", True),
        ("orders", False),
    ]
    again = ingested({(NOON, "dc1"): (3, 1)})
    assert counted_events([HOUR], "visits", computed, books["visits"]) == {HOUR: 4}
    assert counted_events([HOUR], "visits", computed, again) == {HOUR: 3}
