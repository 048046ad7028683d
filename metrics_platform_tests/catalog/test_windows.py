"""Windows tile time, and finer windows tile coarser ones, whatever the clocks do."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.catalog.windows import Calendar, Grain, Window, child_grain

# Zones with unusual clocks: half and quarter hours, skipped midnights (Sao_Paulo, Beirut,
# Havana, Azores), a whole day that is skipped (Apia), clocks that go back a minute past midnight (St_Johns,
# Goose_Bay) or by three hours across it (Casey), two hours at once (Troll), and a backward summer (Dublin).
CALENDARS = [
    Calendar(zone)
    for zone in (
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "America/New_York",
        "America/St_Johns",
        "America/Goose_Bay",
        "America/Havana",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Atlantic/Azores",
        "Antarctica/Casey",
        "Antarctica/Troll",
        "Pacific/Apia",
        "Pacific/Chatham",
    )
]

Place = tuple[Calendar, datetime]

calendars = st.sampled_from(CALENDARS)
grains = st.sampled_from(Grain)
instants = st.datetimes(datetime(2000, 1, 10), datetime(2037, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def instants_near_clock_changes(draw: st.DrawFn) -> Place:
    """A calendar, and an instant within a day of one of its clock changes, to the minute."""
    calendar = draw(calendars)
    first = datetime(draw(st.integers(2000, 2036)), 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=n) for n in range(366)]
    offsets = [day.astimezone(calendar.zone).utcoffset() for day in days]
    changes = [day for day, (one, other) in zip(days, pairwise(offsets), strict=False) if one != other]
    day = draw(st.sampled_from(changes or days))
    return calendar, day + timedelta(minutes=draw(st.integers(-1440, 2880)))


def in_some_calendar() -> st.SearchStrategy[Place]:
    return st.tuples(calendars, instants) | instants_near_clock_changes()


@given(in_some_calendar(), grains)
def test_window_of_an_instant_contains_it_and_ends_before_the_next_window(place: Place, grain: Grain) -> None:
    calendar, instant = place
    window = calendar.window(grain, instant)
    assert window.contains(instant)
    assert calendar.window(grain, window.start) == window
    assert calendar.window(grain, window.end - timedelta(microseconds=1)) == window


@given(in_some_calendar(), grains)
def test_windows_of_a_grain_tile_time(place: Place, grain: Grain) -> None:
    calendar, instant = place
    window = calendar.window(grain, instant)
    following = calendar.window(grain, window.end)
    preceding = calendar.window(grain, window.start - timedelta(microseconds=1))
    assert following.start == window.end
    assert preceding.end == window.start


@given(in_some_calendar(), st.sampled_from([Grain.HOUR, Grain.DAY, Grain.WEEK]))
def test_children_tile_their_parent(place: Place, grain: Grain) -> None:
    calendar, instant = place
    parent = calendar.window(grain, instant)
    children = list(calendar.children(parent))
    assert children[0].start == parent.start
    assert children[-1].end == parent.end
    assert all(one.end == other.start for one, other in pairwise(children))
    assert {child.grain for child in children} == {child_grain(grain)}
    assert sum(child.minutes for child in children) == parent.minutes


@given(in_some_calendar())
def test_a_minute_is_enclosed_by_one_window_of_every_coarser_grain(place: Place) -> None:
    calendar, instant = place
    minute = calendar.window(Grain.MINUTE, instant)
    enclosing = calendar.enclosing(minute)
    assert [window.grain for window in enclosing] == [Grain.HOUR, Grain.DAY, Grain.WEEK]
    assert all(window.start <= minute.start < minute.end <= window.end for window in enclosing)


@given(in_some_calendar(), grains)
def test_the_last_complete_window_ends_where_the_running_one_starts(place: Place, grain: Grain) -> None:
    calendar, now = place
    complete = calendar.last_complete(grain, now)
    assert complete.end <= now
    assert complete.end == calendar.window(grain, now).start


@given(in_some_calendar(), st.integers(1, 50))
def test_windows_between_two_instants_cover_them_and_nothing_more(place: Place, hours: int) -> None:
    calendar, start = place
    end = start + timedelta(hours=hours)
    found = list(calendar.windows(Grain.HOUR, start, end))
    assert found[0].contains(start)
    assert found[-1].start < end <= found[-1].end
    assert all(one.end == other.start for one, other in pairwise(found))


@given(in_some_calendar())
def test_weeks_start_on_monday(place: Place) -> None:
    calendar, instant = place
    week = calendar.window(Grain.WEEK, instant)
    assert week.start.astimezone(calendar.zone).date().weekday() == 0


def day_of(zone: str, day: date) -> Window:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
    return Calendar(zone).window(Grain.DAY, noon)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 28), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # begins at 01:00: midnight was skipped
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # 23:00 to 24:00 came twice
        ("Antarctica/Troll", date(2026, 3, 29), 22),
        ("Asia/Kolkata", date(2026, 3, 29), 24),
    ],
)
def test_a_day_is_shorter_or_longer_when_clocks_change(zone: str, day: date, hours: int) -> None:
    window = day_of(zone, day)
    assert window.minutes == hours * 60
    assert len(list(Calendar(zone).children(window))) == hours


def test_a_day_begins_at_local_midnight() -> None:
    assert day_of("Asia/Kathmandu", date(2026, 1, 1)).start == datetime(2025, 12, 31, 18, 15, tzinfo=UTC)


def test_a_day_whose_midnight_is_skipped_begins_at_the_change() -> None:
    assert day_of("America/Sao_Paulo", date(2018, 11, 4)).start == datetime(2018, 11, 4, 3, 0, tzinfo=UTC)


def test_a_day_that_a_zone_skips_has_no_window() -> None:
    before, after = day_of("Pacific/Apia", date(2011, 12, 29)), day_of("Pacific/Apia", date(2011, 12, 31))
    assert before.end == after.start


def test_an_hour_shown_again_after_midnight_belongs_to_the_new_day() -> None:
    # In 2010 St John's clocks went from 00:01 on 7 November back to 23:01 on the 6th.
    repeated = datetime(2010, 11, 7, 3, 0, tzinfo=UTC)
    assert repeated.astimezone(ZoneInfo("America/St_Johns")).date() == date(2010, 11, 6)
    assert Calendar("America/St_Johns").window(Grain.DAY, repeated) == day_of(
        "America/St_Johns", date(2010, 11, 7)
    )


def test_hours_in_a_zone_with_half_hours_are_local_hours() -> None:
    hour = Calendar("Asia/Kolkata").window(Grain.HOUR, datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    assert hour.start == datetime(2026, 1, 1, 11, 30, tzinfo=UTC)


def test_a_window_does_not_depend_on_the_zone_an_instant_is_given_in() -> None:
    calendar = Calendar("Europe/Berlin")
    instant = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)
    assert calendar.window(Grain.DAY, instant) == calendar.window(
        Grain.DAY, instant.astimezone(ZoneInfo("Asia/Tokyo"))
    )


def test_a_zone_whose_hours_cannot_tile_days_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'Australia/Lord_Howe' changes its clocks by less than an hour.*use UTC"
    ):
        Calendar("Australia/Lord_Howe")


def test_a_zone_is_judged_from_the_first_day_on() -> None:
    with pytest.raises(ValueError, match="by less than an hour"):
        Calendar("America/Caracas", date(2016, 4, 30))
    assert Calendar("America/Caracas", date(2016, 5, 2)).hour_offset == timedelta(0)
    assert Calendar("Asia/Pyongyang", date(2019, 1, 1)).hour_offset == timedelta(0)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match=r"unknown time zone.*Europe/Berlin"):
        Calendar(zone)


def test_the_end_of_a_window_belongs_to_the_next() -> None:
    window = Calendar("UTC").window(Grain.MINUTE, datetime(2026, 1, 1, tzinfo=UTC))
    assert window.contains(window.start)
    assert not window.contains(window.end)


def test_a_minute_has_no_children() -> None:
    calendar = Calendar("UTC")
    minute = calendar.window(Grain.MINUTE, datetime(2026, 1, 1, tzinfo=UTC))
    assert list(calendar.children(minute)) == []
    assert child_grain(Grain.MINUTE) is None


def test_a_window_reads_as_its_grain_and_start() -> None:
    window = Calendar("UTC").window(Grain.HOUR, datetime(2026, 1, 1, 7, 30, tzinfo=UTC))
    assert str(window) == "hour 2026-01-01T07:00Z"
