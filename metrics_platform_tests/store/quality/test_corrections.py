"""The log of corrections: which numbers a batch changed, by how much and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from metrics_platform.catalog.measures import Avg, Max, Measure, Percentiles, Sum
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.quality.corrections import Correction, find_corrections, newest_reconciliations
from metrics_platform.store.retention import prune_windows
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import METRICS, NOW, PAGE, Visit, at, catalog, put, window

LATER = NOW + timedelta(hours=1)
MUCH_LATER = NOW + timedelta(hours=2)


def log(conn: Connection, metric: str = "visits", grain: str | None = None) -> list[Correction]:
    return find_corrections(conn, [metric], NOW, Grain(grain) if grain else None)


def pages(one: Window, **counts: int) -> list[Visit]:
    return [Visit(one.start, page=page) for page, count in counts.items() for _ in range(count)]


def test_an_exact_number_that_replaces_an_approximate_one_is_logged_with_all_differences(
    conn: Connection, shop: Catalog
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], pages(minute, home=8, cart=1, bots=1), revision=5)
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=10, cart=1, about=5), revision=9, now=LATER)
    [line] = log(conn, grain="minute")
    version = shop.metric("visits").version
    assert line == Correction(
        metric="visits", grain=Grain.MINUTE, window_start=minute.start, window_end=minute.end,
        corrected_at=LATER, run_id="run-9", reason="exact replaces approximate",
        old_source=Source.STREAM, new_source=Source.BATCH, old_revision=5, new_revision=9,
        old_definition=version, new_definition=version, old_events=10, new_events=16,
        old_total=Decimal(10), new_total=Decimal(16), rows_missing=1, rows_extra=1, rows_changed=1,
        absolute_error=6, relative_error=6 / 16, wape=(2 + 1 + 5) / 16, smape=(2 * 2 / 18 + 0 + 2 + 2) / 4,
        worst=[
            {"dimensions": {"page": "about"}, "old": None, "new": 5},
            {"dimensions": {"page": "home"}, "old": 8, "new": 10},
            {"dimensions": {"page": "bots"}, "old": 1, "new": None},
        ],
    )  # fmt: skip
    assert [found.window for found in log(conn)] == [minute, *shop.calendar.enclosing(minute)]


def test_the_same_result_again_is_no_correction(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    for now in (NOW, LATER, MUCH_LATER):
        put(conn, shop, Source.BATCH, [minute], pages(minute, home=2), now=now)
    for metric in shop.metrics:
        assert log(conn, metric.name) == []


def test_a_correction_by_the_stream_is_not_logged(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    for count in (2, 3):
        put(conn, shop, Source.STREAM, [minute], pages(minute, home=count))
    assert log(conn) == []


def test_the_first_number_of_a_window_is_no_correction(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=2))
    assert log(conn) == []


def test_the_batchs_reason_is_logged_for_coarser_windows_too(conn: Connection, shop: Catalog) -> None:
    minute, other = (window(shop, "minute", f"2026-03-02T10:{text}") for text in (15, 16))
    hour, day, week = shop.calendar.enclosing(minute)
    put(conn, shop, Source.BATCH, [minute, other], pages(minute, home=2))
    put(
        conn, shop, Source.BATCH, [minute, other], pages(minute, home=3), now=LATER,
        reasons={hour: "late events", other: "gap"},
    )  # fmt: skip
    assert {line.window: line.reason for line in log(conn)} == {
        minute: "late events",
        hour: "gap, late events",
        day: "gap, late events",
        week: "gap, late events",
    }


def test_without_a_given_reason_the_log_has_a_general_one(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], pages(minute, home=1))
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=2), now=LATER)
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=3), now=MUCH_LATER)
    assert [line.reason for line in log(conn, grain="minute")] == [
        "computed again", "exact replaces approximate",
    ]  # fmt: skip


def test_a_correction_by_a_new_definition_is_no_reconciliation(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], pages(minute, home=2, admin=1))
    changed = catalog(*(replace(metric, filter="page <> 'admin'") for metric in METRICS))
    migrate(conn, changed, NOW)
    put(conn, changed, Source.BATCH, [minute], pages(minute, home=2), now=LATER)
    [line] = log(conn, grain="minute")
    assert line.reason == "new definition"
    assert (line.old_definition, line.new_definition) == (
        shop.metric("visits").version,
        changed.metric("visits").version,
    )
    assert newest_reconciliations(conn, "visits", Grain.MINUTE) == []


def test_values_that_do_not_add_up_have_no_total_and_are_compared_row_by_row(
    conn: Connection, shop: Catalog
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start, amount=Decimal(4), seconds=1.0)])
    visits = [Visit(minute.start, amount=Decimal(4), seconds=1.0)] * 2
    visits += [Visit(minute.start, amount=Decimal(7), seconds=4.0)]
    put(conn, shop, Source.BATCH, [minute], visits, now=LATER)
    [average] = log(conn, "average_order", "minute")
    assert (average.old_total, average.absolute_error, average.relative_error) == (None, 2, 2 / 3)
    assert average.wape == pytest.approx(1 / 5)
    assert average.worst == [{"dimensions": {}, "old": 4, "new": 5}]
    [highest] = log(conn, "highest", "minute")
    assert (highest.wape, highest.rows_changed) == (0.75, 1)
    [latency] = log(conn, "latency", "minute")  # its median is the same, its p95 is not
    assert (latency.wape, latency.rows_changed) == (0, 1)


@pytest.mark.parametrize(
    "measure", [Avg("seconds", "double"), Max("seconds", "double"), Percentiles("seconds", "double", (0.5,))]
)
def test_after_a_dimension_is_removed_old_values_that_do_not_add_up_are_null(
    conn: Connection, measure: Measure
) -> None:
    by_page = Metric("pace", "visits", measure, (PAGE,))
    minute = window(catalog(by_page), "minute", "2026-03-02T10:15")
    visits = [
        Visit(minute.start, page, seconds=seconds) for page, seconds in (("home", 50.0), ("cart", 60.0))
    ]
    migrate(conn, catalog(by_page), NOW)
    put(conn, catalog(by_page), Source.BATCH, [minute], visits)
    shop = catalog(replace(by_page, dimensions=()))
    migrate(conn, shop, NOW)
    put(conn, shop, Source.BATCH, [minute], visits, now=LATER)
    [line] = log(conn, "pace", "minute")
    [worst] = line.worst
    assert worst["old"] is None
    assert 50 <= worst["new"] <= 60
    assert (line.rows_changed, line.old_events, line.wape, line.smape) == (1, 2, None, None)


def test_after_a_dimension_is_removed_old_values_that_add_up_are_compared(conn: Connection) -> None:
    by_page = catalog(METRICS[0])
    minute = window(by_page, "minute", "2026-03-02T10:15")
    put(conn, by_page, Source.BATCH, [minute], pages(minute, home=2, cart=1))
    shop = catalog(replace(METRICS[0], dimensions=()))
    migrate(conn, shop, NOW)
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=2, cart=2), now=LATER)
    [line] = log(conn, grain="minute")
    assert (line.old_total, line.wape, line.worst[0]["old"]) == (3, 1 / 4, 3)


def test_old_and_new_numbers_of_different_types_are_compared_in_full(conn: Connection) -> None:
    exact = Metric("sales", "visits", Sum("amount", "decimal(38,2)"))
    minute = window(catalog(exact), "minute", "2026-03-02T10:15")
    visits = [Visit(minute.start, amount=Decimal("12345678901234567890.12"), seconds=0.1)]
    double = replace(exact, measure=Sum("seconds", "double"))
    for metric, now in ((exact, NOW), (double, LATER), (exact, MUCH_LATER)):
        migrate(conn, catalog(metric), now)
        put(conn, catalog(metric), Source.BATCH, [minute], visits, now=now)
    back, forth = log(conn, "sales", "minute")
    assert (forth.old_total, forth.new_total) == (Decimal("12345678901234567890.12"), Decimal("0.1"))
    assert (back.old_total, back.new_total) == (Decimal("0.1"), Decimal("12345678901234567890.12"))


def test_without_an_exact_number_above_zero_there_is_no_relative_error(
    conn: Connection, shop: Catalog
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], pages(minute, home=2))
    put(conn, shop, Source.BATCH, [minute], [], now=LATER)
    [line] = log(conn, grain="minute")
    assert (line.absolute_error, line.relative_error, line.wape, line.smape) == (2, None, None, 2)


def test_reconciliations_are_those_of_the_newest_run_even_where_nothing_differed(
    conn: Connection, shop: Catalog
) -> None:
    minutes = [window(shop, "minute", f"2026-03-02T10:{text}") for text in (15, 16, 17)]
    put(conn, shop, Source.STREAM, minutes, pages(minutes[1], home=2))
    put(conn, shop, Source.BATCH, minutes[:1], [], now=LATER)
    put(conn, shop, Source.BATCH, minutes[1:], pages(minutes[1], home=2), now=MUCH_LATER)
    assert [(line.window, line.wape) for line in newest_reconciliations(conn, "visits", Grain.MINUTE)] == [
        (minutes[1], 0), (minutes[2], 0),
    ]  # fmt: skip
    assert log(conn, grain="minute") == []


def test_the_log_is_kept_as_long_as_its_windows(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], pages(minute, home=1))
    put(conn, shop, Source.BATCH, [minute], pages(minute, home=2), now=LATER)
    prune_windows(conn, shop, minute.end + timedelta(days=7, hours=1))
    assert {str(line.window.grain) for line in log(conn)} == {"hour", "day", "week"}


# The log against a few lines of plain Python ----------------------------------------------------------------

SHOP = catalog(METRICS[0], METRICS[1], METRICS[3])
MINUTE = SHOP.calendar.window(Grain.MINUTE, at("2026-03-02T10:15"))

_VISITS = st.lists(
    st.builds(
        Visit,
        at=st.just(MINUTE.start),
        page=st.sampled_from(["home", "cart", "", "é", "a,b", "x", None]),
        amount=st.none() | st.integers(-300, 300).map(lambda cents: Decimal(cents) / 100),
        seconds=st.none() | st.integers(0, 20).map(lambda eighths: eighths / 8),
    ),
    max_size=12,
)


@dataclass(frozen=True)
class Row:
    events: int
    value: float | None


@given(old=_VISITS, new=_VISITS, exact=st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_log_agrees_with_the_oracle(
    module_database: str, old: list[Visit], new: list[Visit], exact: bool
) -> None:
    with connect(module_database) as conn:
        migrate(conn, SHOP, NOW)
        _empty(conn)
        put(conn, SHOP, Source.BATCH if exact else Source.STREAM, [MINUTE], old)
        put(conn, SHOP, Source.BATCH, [MINUTE], new, now=LATER)
        for name in ("visits", "revenue", "highest"):
            lines = find_corrections(conn, [name], NOW, Grain.MINUTE)
            expected = _expected(name, _rows(name, old), _rows(name, new))
            assert len(lines) == (1 if expected else 0)
            for line in lines:
                assert {field: getattr(line, field) for field in expected} == pytest.approx(expected)
                assert _offs(line.worst) == pytest.approx(_worst(_rows(name, old), _rows(name, new)))


def _rows(metric: str, visits: Sequence[Visit]) -> dict[str | None, Row]:
    found = {}
    for page in {visit.page for visit in visits}:
        mine = [visit for visit in visits if visit.page == page]
        amounts = [float(visit.amount) for visit in mine if visit.amount is not None]
        seconds = [visit.seconds for visit in mine if visit.seconds is not None]
        value = {
            "visits": float(len(mine)),
            "revenue": sum(amounts) if amounts else None,
            "highest": max(seconds, default=None),
        }[metric]
        found[page] = Row(len(mine), value)
    return found


def _expected(metric: str, old: dict[str | None, Row], new: dict[str | None, Row]) -> dict[str, Any]:
    """The expected content of the line; nothing if no row differs."""
    missing, extra = new.keys() - old.keys(), old.keys() - new.keys()
    changed = [page for page in old.keys() & new.keys() if not _same(old[page], new[page])]
    if not missing and not extra and not changed:
        return {}
    off = {page: abs(_value(old, page) - _value(new, page)) for page in old.keys() | new.keys()}
    weight = sum(abs(_value(new, page)) for page in new)
    totals = [sum(_value(side, page) for page in side) for side in (old, new)]
    events = [sum(row.events for row in side.values()) for side in (old, new)]
    total = events if metric == "highest" else totals
    absolute = abs(total[0] - total[1])
    symmetric = [
        2 * off[page] / (abs(_value(old, page)) + abs(_value(new, page))) if off[page] > 1e-9 else 0
        for page in off
    ]
    return {
        "rows_missing": len(missing), "rows_extra": len(extra), "rows_changed": len(changed),
        "old_events": events[0], "new_events": events[1],
        "absolute_error": absolute, "relative_error": _share(absolute, abs(total[1])),
        "wape": _share(sum(off.values()), weight), "smape": sum(symmetric) / len(symmetric),
    }  # fmt: skip


def _same(old: Row, new: Row) -> bool:
    if old.value is None or new.value is None:
        return old == new
    return old.events == new.events and old.value == pytest.approx(new.value)


def _value(rows: dict[str | None, Row], page: str | None) -> float:
    return (rows[page].value or 0) if page in rows else 0


def _share(part: float, whole: float) -> float | None:
    return 0 if part < 1e-9 else part / whole if whole > 1e-9 else None


def _worst(old: dict[str | None, Row], new: dict[str | None, Row]) -> list[float]:
    """The differences of the named dimension values, which are the five largest ones."""
    different = [page for page in old.keys() | new.keys() if page not in old or page not in new
                 or not _same(old[page], new[page])]  # fmt: skip
    return sorted((abs(_value(old, page) - _value(new, page)) for page in different), reverse=True)[:5]


def _offs(worst: list[dict[str, Any]]) -> list[float]:
    return [abs((one["old"] or 0) - (one["new"] or 0)) for one in worst]


def _empty(conn: Connection) -> None:
    conn.execute("DELETE FROM platform.ledger")
    conn.execute("DELETE FROM platform.corrections")
    for metric in SHOP.metrics:
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier("store", metric.name)))
