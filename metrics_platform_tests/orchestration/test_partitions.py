"""A window has one partition, a partition one window, whatever clocks do."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from dagster import TimeWindow
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.orchestration.partitions import partition_key, partitions, windows_of
from metrics_platform_tests.support.nowhere import catalog

TODAY = date(2026, 11, 22)
# Half hours, clocks that change at midnight, a zone west of Greenwich.
CATALOGS = [catalog(zone) for zone in ("Europe/Berlin", "Asia/Kolkata", "Africa/Cairo", "America/New_York")]

catalogs = st.sampled_from(CATALOGS)
# From the first full week of the catalogue on; by then every grain has partitions.
instants = st.datetimes(datetime(2026, 1, 6), datetime(2027, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001
recent = st.datetimes(datetime(2026, 11, 20), datetime(2026, 11, 24), timezones=st.just(UTC))  # noqa: DTZ001


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


@given(catalogs, st.sampled_from([Grain.HOUR, Grain.DAY, Grain.WEEK]), instants)
def test_a_windows_key_names_a_partition_that_is_the_window(
    defined: Catalog, grain: Grain, instant: datetime
) -> None:
    window = defined.calendar.window(grain, instant)
    found = partitions(defined, grain, TODAY).time_window_for_partition_key(partition_key(window, defined))
    assert windows_of(found, defined, grain) == [window]


@given(catalogs, recent)
def test_a_minutes_key_names_a_partition_that_is_the_minute(defined: Catalog, instant: datetime) -> None:
    window = defined.calendar.window(Grain.MINUTE, instant)
    found = partitions(defined, Grain.MINUTE, TODAY)
    assert windows_of(
        found.time_window_for_partition_key(partition_key(window, defined)), defined, Grain.MINUTE
    ) == [window]


@pytest.mark.parametrize("defined", CATALOGS, ids=lambda one: one.timezone)
@pytest.mark.parametrize("grain", [Grain.HOUR, Grain.DAY])
def test_the_first_partition_begins_with_the_catalogues_first_day(defined: Catalog, grain: Grain) -> None:
    first = partitions(defined, grain, TODAY).get_first_partition_window()
    assert first is not None
    assert first.start == datetime(2026, 1, 1, tzinfo=defined.calendar.zone) == defined.first_instant


def test_the_first_week_is_the_first_whole_one() -> None:
    first = partitions(CATALOGS[0], Grain.WEEK, TODAY).get_first_partition_window()
    assert first is not None
    assert first.start == berlin("2026-01-05")


@pytest.mark.parametrize("defined", CATALOGS, ids=lambda one: one.timezone)
def test_minutes_begin_two_days_ago_and_end_with_the_last_complete_one(defined: Catalog) -> None:
    found = partitions(defined, Grain.MINUTE, TODAY)
    now = datetime(2026, 11, 22, 12, 30, 30, tzinfo=UTC)
    keys = found.get_partition_keys(current_time=now)
    assert (keys[0], keys[-1]) == ("2026-11-20-00:00", "2026-11-22-12:29")
    assert len(keys) == len(set(keys)) == (2 * 24 * 60 + 12 * 60 + 30)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_days_on_which_clocks_change_have_all_their_hours_once(day: str, hours: int) -> None:
    defined = CATALOGS[0]
    of_day = partitions(defined, Grain.DAY, TODAY).time_window_for_partition_key(day)
    [window] = windows_of(of_day, defined, Grain.DAY)
    assert window.minutes == hours * 60
    keys = [partition_key(hour, defined) for hour in defined.calendar.children(window)]
    assert len(set(keys)) == hours
    in_dagster = partitions(defined, Grain.HOUR, TODAY).get_partition_keys_in_time_window(of_day)
    assert list(in_dagster) == keys


def test_keys_read_as_their_windows_begin() -> None:
    defined = CATALOGS[0]
    instant = berlin("2026-11-22T00:07")
    assert {grain: partition_key(defined.calendar.window(grain, instant), defined) for grain in Grain} == {
        Grain.MINUTE: "2026-11-21-23:07",
        Grain.HOUR: "2026-11-21-23:00",
        Grain.DAY: "2026-11-22",
        Grain.WEEK: "2026-11-16",
    }


def test_hours_in_kolkata_begin_at_half_past() -> None:
    defined = CATALOGS[1]
    window = defined.calendar.window(Grain.HOUR, datetime(2026, 11, 22, 12, 10, tzinfo=UTC))
    assert partition_key(window, defined) == "2026-11-22-11:30"


@given(catalogs, instants, st.integers(1, 30))
def test_a_range_of_partitions_is_its_windows_in_order(
    defined: Catalog, instant: datetime, count: int
) -> None:
    first = defined.calendar.window(Grain.DAY, instant)
    last = defined.calendar.window(Grain.DAY, first.start + timedelta(days=count))
    found = windows_of(TimeWindow(first.start, last.end), defined, Grain.DAY)
    assert (found[0], found[-1]) == (first, last)
    assert all(one.end == other.start for one, other in pairwise(found))


def test_a_new_day_moves_the_minutes_on_and_leaves_the_rest() -> None:
    defined, tomorrow = CATALOGS[0], TODAY + timedelta(days=1)
    moved = partitions(defined, Grain.MINUTE, tomorrow)
    assert moved.start - partitions(defined, Grain.MINUTE, TODAY).start == 24 * 60 * MINUTE
    for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK):
        assert partitions(defined, grain, tomorrow) == partitions(defined, grain, TODAY)
