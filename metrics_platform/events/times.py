"""How times are written in events, and which of them are accepted.

A time is a number of seconds, milliseconds, microseconds or nanoseconds since 1970, or text in ISO 8601. A
number that is a time of this century in a coarser unit than its field's is rejected: read in the field's
unit it would be a time of early 1970, which nobody means.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from metrics_platform.catalog.model import EPOCH_UNITS, Catalog
from metrics_platform.events.sql import instant, let, literal, micros

# The times that Spark, PostgreSQL and Python can all hold, whatever the time zone.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
# Nearly all times that are sent lie in this century.
_CENTURY = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
UNSET = datetime(1970, 1, 1, tzinfo=UTC)  # what a time is that was never set
_DAY = timedelta(days=1) // timedelta(microseconds=1)

# Spark accepts more as a date or timestamp than ISO 8601: a year alone, seconds since 1970, a time of today,
# any text after a date. Values must match these patterns.
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
ISO_PATTERNS = {
    "date": rf"^{_DATE}(?:[T ][0-9:.]+ ?(?:Z|[+-][0-9:]+)?)?\z",
    "timestamp": rf"^{_DATE}(?:[T ]|\z)",
}
# What ISO 8601 and RFC 3339 allow and Spark does not read: t and z, a decimal comma, an offset without
# seconds, a leap second.
_ANY_CASE = rf"^{_DATE}[Tt ][0-9:.,]+ ?(?:[Zz]|[+-][0-9:]+)?\z"
_NO_SECONDS = r"^(.{10}[T ][0-9]{2}:[0-9]{2})(?= ?(?:Z|[+-]))"
_LEAP_SECOND = r"^(.{10}[T ][0-9]{2}:[0-9]{2}):60(?:[.][0-9]+)?(?=[^0-9.])"


@dataclass(frozen=True)
class EventTimes:
    """The event times that are accepted."""

    first: datetime  # the catalogue's start
    ahead: timedelta  # how far an event time may lie ahead of the reader's clock


def accepted_times(catalog: Catalog) -> EventTimes:
    """The event times that the catalogue accepts."""
    return EventTimes(catalog.first_instant, catalog.future_bound)


def epoch(unit: str, value: str) -> str:
    """SQL for the timestamp of a number since 1970; null for a number that is no time in this unit.

    `unit` is a key of EPOCH_UNITS. The value is a bigint, for seconds a decimal.
    """
    per_second = EPOCH_UNITS[unit]
    first, last = (_since_1970(bound, per_second) for bound in (_FIRST, _LAST))
    coarser = [other for other in EPOCH_UNITS.values() if other < per_second]
    meant = [f"not ({_of_this_century(value, other)})" for other in coarser]
    tests = " and ".join([f"{value} between {first} and {last}", *meant])
    return f"if({tests}, {_timestamp(unit, value)}, null)"


def likely_unit(number: str) -> str:
    """SQL for the type of epoch time that makes a number (a double) a time of this century; null for none."""
    tests = (f"when {_of_this_century(number, n)} then {literal(u)}" for u, n in EPOCH_UNITS.items())
    return f"case {' '.join(tests)} end"


def iso(spark_type: str, value: str) -> str:
    """SQL for the date or timestamp of a text in ISO 8601; null for another text."""
    cast = f"try_cast({value} as {spark_type})"
    bounds = f"{cast} between {instant(_FIRST)} and {instant(_LAST)}"
    return f"if({value} rlike {literal(ISO_PATTERNS[spark_type])} and {bounds}, {cast}, null)"


def iso_in_any_form(spark_type: str, value: str) -> str:
    """As `iso`, and also for the rarer forms of ISO 8601 and RFC 3339 that Spark does not read.

    A leap second is the last microsecond of its minute, as clocks know no other time for it.
    """
    usual = f"if({value} rlike {literal(_ANY_CASE)}, translate(upper({value}), ',', '.'), {value})"
    usual = f"regexp_replace({usual}, {literal(_NO_SECONDS)}, '$1:00')"
    if spark_type == "date":
        return let("_i", usual, iso("date", "_i"))
    leaps = f"_i rlike {literal(_LEAP_SECOND)}"
    last = iso("timestamp", f"regexp_replace(_i, {literal(_LEAP_SECOND)}, '$1:59.999999')")
    ends_day = f"pmod(unix_micros({last}), {_DAY}) = {_DAY - 1}"
    return let(
        "_i", usual, f"case when {leaps} then if({ends_day}, {last}, null) else {iso('timestamp', '_i')} end"
    )


def _timestamp(unit: str, value: str) -> str:
    match unit:
        case "epoch_seconds":
            return f"timestamp_micros(bigint({value} * 1000000))"
        case "epoch_millis":
            return f"timestamp_millis({value})"
        case "epoch_micros":
            return f"timestamp_micros({value})"
        case _:
            return f"timestamp_micros(({value} - pmod({value}, 1000)) div 1000)"


def _of_this_century(value: str, per_second: int) -> str:
    start, end = (_since_1970(bound, per_second) for bound in _CENTURY)
    return f"{value} between {start} and {end}"


def _since_1970(bound: datetime, per_second: int) -> int:
    return micros(bound) * per_second // 1_000_000
