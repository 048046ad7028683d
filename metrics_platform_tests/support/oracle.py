"""What every window must hold, worked out from the records that were sent, in plain Python."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from psycopg import sql

from metrics_platform.catalog.windows import Grain
from metrics_platform.local.traffic.shop import INTERACTIONS, ORDERS, Event, Record
from metrics_platform.store.connection import Connection

BERLIN = ZoneInfo("Europe/Berlin")

# What the example catalogue says, written a second time: kind, filter on `type`, dimensions, field.
RULES: dict[str, tuple[str, str | None, tuple[str, ...], str | None]] = {
    "clicks_per_page": (INTERACTIONS, "click", ("page",), None),
    "views_by_country_and_device": (INTERACTIONS, "view", ("country", "device"), None),
    "unique_visitors_per_page": (INTERACTIONS, "view", ("page",), "visitor_id"),
    "revenue_by_country": (ORDERS, None, ("country",), "amount"),
    "average_order_value": (ORDERS, None, (), "amount"),
    "checkout_latency": (ORDERS, None, (), "checkout_ms"),
}
Key = tuple[datetime, tuple[str, ...]]


def accepted(records: Iterable[Record]) -> list[Record]:
    """The records that are events; the malformed ones are not."""
    return [record for record in records if record.sort != "malformed"]


def deduplicated(records: Iterable[Record]) -> list[Record]:
    """Each event once."""
    return list({record.event["event_id"]: record for record in accepted(records)}.values())


def window_start(event: Event, grain: Grain) -> datetime:
    """The start of the event's window, by Berlin's wall clock."""
    millis = event["event_time"]
    assert isinstance(millis, int)
    instant = datetime.fromtimestamp(millis / 1000, UTC)
    if grain is Grain.MINUTE:
        return instant.replace(second=0, microsecond=0)
    if grain is Grain.HOUR:
        return instant.replace(minute=0, second=0, microsecond=0)
    local = instant.astimezone(BERLIN)
    day = local.toordinal() - (local.weekday() if grain is Grain.WEEK else 0)
    first = datetime.fromordinal(day)
    return datetime(first.year, first.month, first.day, tzinfo=BERLIN).astimezone(UTC)


def groups(records: Iterable[Record], metric: str, grain: Grain) -> dict[Key, list[Event]]:
    """The events that count for the metric, by window and dimensions."""
    kind, kept, dimensions, _ = RULES[metric]
    found: dict[Key, list[Event]] = defaultdict(list)
    for record in records:
        if record.kind == kind and (kept is None or record.event["type"] == kept):
            key = window_start(record.event, grain), tuple(str(record.event[name]) for name in dimensions)
            found[key].append(record.event)
    return found


@dataclass(frozen=True)
class Difference:
    """A window that is not what it must be."""

    metric: str
    grain: Grain
    key: Key
    expected: object
    found: object


def differences(conn: Connection, records: Sequence[Record], metric: str, grain: Grain) -> list[Difference]:
    """Where the store's rows are not what the records say. Sketches may err by their stated error."""
    _, _, dimensions, field = RULES[metric]
    expected = groups(records, metric, grain)
    query = sql.SQL("SELECT window_start, {}, events, {} FROM metrics.{} WHERE grain = %s").format(
        sql.SQL(", ").join([sql.SQL("ARRAY[{}]::text[]").format(_list(dimensions))]),
        _list(("p50", "p95", "p99") if metric == "checkout_latency" else ("value",)),
        sql.Identifier(metric),
    )
    rows = conn.execute(query, (str(grain),)).fetchall()
    found = {(start, tuple(values)): (events, tuple(numbers)) for start, values, events, *numbers in rows}
    wrong = [
        Difference(metric, grain, key, expected.get(key) and len(expected[key]), found.get(key))
        for key in expected.keys() ^ found.keys()
    ]
    for key in expected.keys() & found.keys():
        events, numbers = found[key]
        if events != len(expected[key]) or not _right(metric, field, expected[key], numbers):
            wrong.append(Difference(metric, grain, key, len(expected[key]), found[key]))
    return wrong


def _list(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _right(metric: str, field: str | None, events: list[Event], numbers: tuple[object, ...]) -> bool:
    if field is None:
        return numbers == (len(events),)
    values = [event[field] for event in events]
    if metric == "unique_visitors_per_page":
        distinct, [estimate] = len(set(values)), numbers
        assert isinstance(estimate, int)
        return abs(estimate - distinct) <= max(1, 0.05 * distinct)  # three standard errors
    if metric == "checkout_latency":
        return _ranks_right(sorted(map(float, values)), numbers)  # type: ignore[arg-type]
    amounts = [Decimal(str(value)) for value in values]
    total = sum(amounts, Decimal(0))
    [number] = numbers
    assert isinstance(number, Decimal)
    exact = total if metric == "revenue_by_country" else total / len(amounts)
    return abs(number - exact) < Decimal("1e-12")


def _ranks_right(values: list[float], numbers: tuple[object, ...]) -> bool:
    """Each percentile's rank among the values is within twice the sketch's rank error, or one value off."""
    for rank, number in zip((0.5, 0.95, 0.99), numbers, strict=True):
        assert isinstance(number, float)
        slack = 0.006 + 1 / len(values)
        low, high = bisect_left(values, number) / len(values), bisect_right(values, number) / len(values)
        if not low - slack <= rank <= high + slack:
            return False
    return True
