"""The schema migrates itself, and nothing that was in it is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from metrics_platform.catalog.measures import Avg, Count, Max, Measure, Min, Percentiles, Sum
from metrics_platform.catalog.model import Catalog, Dimension, Metric
from metrics_platform.store import migrations
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, StoreUnavailable, connect
from metrics_platform.store.migrations import MIGRATIONS, StoreTooNew
from metrics_platform.store.schema import ViewInUse, migrate
from metrics_platform_tests.store.shop import METRICS, NOW, PAGE, Visit, catalog, put, window

LATER = NOW + timedelta(days=1)
DEVICE = Dimension("device", "device", "string")
SALES = Metric("sales", "visits", Sum("amount", "decimal(12,2)"), (PAGE,))


@pytest.fixture
def shop() -> Catalog:
    return catalog(SALES)


def columns(conn: Connection, schema: str) -> dict[str, str]:
    """The columns of the metric's base table (schema store) or view (schema metrics), in order."""
    rows = conn.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = 'sales' ORDER BY ordinal_position",
        (schema,),
    )
    return dict(rows.fetchall())


def sell(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])


def test_the_columns_of_a_view_are_in_reading_order(conn: Connection) -> None:
    assert list(columns(conn, "metrics")) == [
        "grain", "window_start", "window_end", "page", "value", "events", "label", "coverage",
        "error_band", "age", "computed_at", "source", "run_id", "definition", "error_of", "overflowed",
    ]  # fmt: skip


def test_a_view_shows_label_and_coverage(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    hour = window(shop, "hour", "2026-03-02T09:00")
    put(conn, shop, Source.BATCH, [hour], [Visit(hour.start)])
    rows = conn.execute(
        "SELECT grain, label, coverage, source, run_id, definition, computed_at FROM metrics.sales "
        "WHERE grain IN ('minute', 'hour') ORDER BY window_start, grain"
    ).fetchall()
    version = SALES.version
    assert rows == [
        ("hour", "exact", 1, "batch", "run-2", version, NOW),
        ("hour", "approximate", 1 / 60, "rollup", "run-1", version, NOW),
        ("minute", "approximate", 1, "stream", "run-1", version, NOW),
    ]


def test_migrating_again_changes_nothing(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    before = conn.execute("SELECT xmin, * FROM platform.metrics").fetchall()
    migrate(conn, shop, LATER)
    assert conn.execute("SELECT xmin, * FROM platform.metrics").fetchall() == before


def test_a_new_dimension_is_added_beside_the_old_numbers(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    migrate(conn, catalog(replace(SALES, dimensions=(PAGE, DEVICE))), LATER)
    assert "device" in columns(conn, "metrics")
    row = conn.execute("SELECT page, device, value FROM metrics.sales WHERE grain = 'minute'").fetchone()
    assert row == ("home", None, 1)


def test_a_dimension_that_is_gone_stays_in_the_table_and_leaves_the_view(
    conn: Connection, shop: Catalog
) -> None:
    sell(conn, shop)
    without = catalog(replace(SALES, dimensions=()))
    migrate(conn, without, LATER)
    assert "page" not in columns(conn, "metrics")
    assert conn.execute("SELECT page FROM store.sales WHERE grain = 'minute'").fetchone() == ("home",)
    sell(conn, without)  # a dimension that nobody fills any more is no obstacle


def test_a_column_of_another_type_keeps_its_old_values_under_the_old_type(
    conn: Connection, shop: Catalog
) -> None:
    sell(conn, shop)
    flag = replace(SALES, dimensions=(Dimension("page", "page is not null", "boolean"),))
    migrate(conn, catalog(flag), LATER)
    found = columns(conn, "store")
    assert found["page"] == "boolean"
    assert found["page text"] == "text"
    kept = conn.execute("SELECT page, \"page text\" FROM store.sales WHERE grain = 'day'").fetchone()
    assert kept == (None, "home")


def test_a_definition_can_change_back(conn: Connection, shop: Catalog) -> None:
    flag = replace(SALES, dimensions=(Dimension("page", "page is not null", "boolean"),))
    sell(conn, shop)
    for definition in (flag, SALES, flag, SALES):
        migrate(conn, catalog(definition), LATER)
    assert columns(conn, "store")["page"] == "text"
    assert conn.execute("SELECT DISTINCT page FROM metrics.sales").fetchall() == [("home",)]
    sell(conn, shop)


@pytest.mark.parametrize(
    "measure", [Count(), Max("seconds", "double"), Avg("amount", "decimal(12,2)"), Sum("seconds", "double")]
)
def test_an_old_window_shows_its_number_after_a_change_of_the_type(
    conn: Connection, shop: Catalog, measure: Measure
) -> None:
    sell(conn, shop)
    changed = catalog(replace(SALES, measure=measure))
    migrate(conn, changed, LATER)

    def minutes() -> list[tuple[object, ...]]:
        query = "SELECT value, definition FROM metrics.sales WHERE grain = 'minute' ORDER BY window_start"
        return conn.execute(query).fetchall()

    assert minutes() == [(1, SALES.version)]
    later = window(shop, "minute", "2026-03-02T10:16")
    put(conn, changed, Source.STREAM, [later], [Visit(later.start, seconds=1.0)])
    assert minutes() == [(1, SALES.version), (1, changed.metrics[0].version)]
    migrate(conn, shop, LATER + timedelta(days=1))
    assert minutes() == [(1, SALES.version), (1, changed.metrics[0].version)]
    migrate(conn, shop, LATER + timedelta(days=1))


_PRECISE = replace(SALES, measure=Sum("amount", "decimal(38,2)"))
_ROUGH = replace(SALES, measure=Sum("seconds", "double"))


@pytest.mark.parametrize(("before", "after"), [(_ROUGH, _PRECISE), (_PRECISE, _ROUGH)])
def test_numbers_of_different_types_in_one_view_keep_all_digits(
    conn: Connection, before: Metric, after: Metric
) -> None:
    exact, double = Decimal("12345678901234567890.12"), 0.1 + 0.2
    first, second = (window(catalog(before), "minute", f"2026-03-02T10:{minute}") for minute in (15, 16))
    for definition, minutes in ((before, [first, second]), (after, [second])):
        migrate(conn, catalog(definition), LATER)
        visits = [Visit(minute.start, amount=exact, seconds=double) for minute in minutes]
        put(conn, catalog(definition), Source.BATCH, minutes, visits, now=LATER)
    numbers = {_PRECISE: exact, _ROUGH: Decimal(str(double))}
    rows = conn.execute("SELECT value FROM metrics.sales WHERE grain = 'minute' ORDER BY window_start")
    assert [value for (value,) in rows.fetchall()] == [numbers[before], numbers[after]]


@pytest.mark.parametrize(
    "measure", [Count(), Avg("amount", "decimal(12,2)"), Percentiles("seconds", "double", (0.5,))]
)
def test_a_metric_may_change_its_measure(conn: Connection, shop: Catalog, measure: Count) -> None:
    sell(conn, shop)
    changed = catalog(replace(SALES, measure=measure))
    migrate(conn, changed, LATER)
    sell(conn, changed)
    assert conn.execute("SELECT count(value) FROM metrics.sales WHERE grain = 'minute'").fetchone() == (1,)


REPORT = "CREATE VIEW report AS SELECT page, sum(value) AS total FROM metrics.sales GROUP BY page"


@pytest.mark.parametrize(
    "change",
    [{"filter": "amount > 0"}, {"description": "Money."}, {"measure": Min("amount", "decimal(12,2)")}],
)
def test_dependent_views_stay_while_the_columns_stay(
    conn: Connection, shop: Catalog, change: dict[str, Any]
) -> None:
    sell(conn, shop)
    conn.execute(REPORT)
    changed = replace(SALES, **change)
    migrate(conn, catalog(changed), LATER)
    assert conn.execute("SELECT total FROM report").fetchone() == (4,)
    assert conn.execute("SELECT version FROM platform.metrics WHERE name = 'sales'").fetchone() == (
        changed.version,
    )
    assert conn.execute("SELECT obj_description('metrics.sales'::regclass)").fetchone() == (
        changed.description or None,
    )


def test_grants_stay_when_a_view_is_created_again(conn: Connection, shop: Catalog) -> None:
    conn.execute("GRANT SELECT ON metrics.sales TO PUBLIC")
    conn.execute("GRANT SELECT, REFERENCES ON metrics.sales TO pg_monitor WITH GRANT OPTION")

    def grants() -> list[tuple[object, ...]]:
        query = "SELECT unnest(relacl)::text AS acl FROM pg_class WHERE oid = 'metrics.sales'::regclass"
        return conn.execute(f"{query} ORDER BY acl").fetchall()

    before = grants()
    assert len(before) == 3  # the owner's own, too
    for dimensions in ((PAGE, DEVICE), (DEVICE,)):
        migrate(conn, catalog(replace(SALES, dimensions=dimensions)), LATER)
        assert grants() == before


def test_grants_on_columns_stay_when_a_view_is_created_again(conn: Connection, shop: Catalog) -> None:
    conn.execute("GRANT SELECT (page, value, label) ON metrics.sales TO PUBLIC")
    monitor = "pg_monitor WITH GRANT OPTION"
    conn.execute(f"GRANT SELECT (window_start), UPDATE (page) ON metrics.sales TO {monitor}")

    def grants() -> dict[str, list[str]]:
        query = (
            "SELECT attname, array_agg(acl::text ORDER BY acl::text) "
            "FROM pg_attribute CROSS JOIN unnest(attacl) AS acl "
            "WHERE attrelid = 'metrics.sales'::regclass GROUP BY attname"
        )
        return dict(conn.execute(query).fetchall())

    before = grants()
    assert before.keys() == {"window_start", "page", "value", "label"}
    assert len(before["page"]) == 2
    migrate(conn, catalog(replace(SALES, dimensions=(DEVICE, PAGE))), LATER)
    assert grants() == before
    migrate(conn, catalog(replace(SALES, dimensions=(DEVICE,))), LATER)
    del before["page"]
    assert grants() == before


def test_a_view_with_dependent_views_is_not_created_again(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    conn.execute(REPORT)
    books = "SELECT name, version, view_hash FROM platform.metrics ORDER BY name"
    before = conn.execute(books).fetchall()
    both = catalog(METRICS[0], replace(SALES, dimensions=(DEVICE, PAGE)))
    with pytest.raises(ViewInUse) as refused:
        migrate(conn, both, LATER)
    assert str(refused.value) == (
        "metric 'sales': the columns of its view change, but others are built on it (view report depends on "
        "view metrics.sales); drop those, start again, and create them anew; nothing was changed"
    )
    assert conn.execute(books).fetchall() == before
    assert "device" not in columns(conn, "store")
    sell(conn, shop)

    conn.execute("DROP VIEW report")
    migrate(conn, both, LATER)
    conn.execute(REPORT)


def test_a_dropped_view_is_created_again(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    conn.execute("DROP VIEW metrics.sales")
    migrate(conn, shop, LATER)
    assert conn.execute("SELECT count(*) FROM metrics.sales").fetchone() == (4,)


def test_the_time_since_which_a_definition_is_current_is_recorded(conn: Connection, shop: Catalog) -> None:
    migrate(conn, catalog(replace(SALES, description="Money.")), LATER)
    assert conn.execute("SELECT since, first_seen FROM platform.metrics").fetchone() == (NOW, NOW)
    migrate(conn, catalog(replace(SALES, filter="amount > 0")), LATER)
    assert conn.execute("SELECT since, first_seen FROM platform.metrics").fetchone() == (LATER, NOW)


def test_a_metric_that_left_the_catalogue_keeps_its_relation(conn: Connection, shop: Catalog) -> None:
    sell(conn, shop)
    migrate(conn, catalog(METRICS[0]), LATER)
    assert conn.execute("SELECT count(*) FROM metrics.sales").fetchone() == (4,)
    assert conn.execute("SELECT retired_at FROM platform.metrics WHERE name = 'sales'").fetchone() == (LATER,)
    migrate(conn, catalog(METRICS[0], SALES), LATER)
    assert conn.execute("SELECT retired_at FROM platform.metrics WHERE name = 'sales'").fetchone() == (None,)


def test_names_and_descriptions_need_no_escaping(conn: Connection) -> None:
    odd = Metric(
        "select", "visits", Count(), (Dimension("order", "page", "string"),), description="100% 'it' {x}"
    )
    migrate(conn, catalog(odd), NOW)
    assert conn.execute("SELECT obj_description('metrics.\"select\"'::regclass)").fetchone() == (
        odd.description,
    )


def test_migrating_a_store_without_definitions_records_the_current_one(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [step] = [step for step in MIGRATIONS if "CREATE TABLE platform.definitions" in step.read_text()]
    with connect(empty_database) as conn:
        monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(step)])
        with conn.transaction():
            migrations.apply(conn, NOW)
        conn.execute(
            "INSERT INTO platform.metrics (name, version, kind, columns, view_hash, first_seen, since) "
            "VALUES ('sales', %s, 'visits', '[]', '', %s, %s)",
            (SALES.version, NOW, NOW),
        )
        monkeypatch.undo()
        changed = replace(SALES, dimensions=())
        migrate(conn, catalog(changed), LATER)
        kept = conn.execute(
            "SELECT version, kind FROM platform.definitions WHERE metric = 'sales'"
        ).fetchall()
        assert set(kept) == {(SALES.version, "visits"), (changed.version, "visits")}


def test_an_older_platform_refuses_a_newer_store(conn: Connection, shop: Catalog) -> None:
    conn.execute("INSERT INTO platform.migrations VALUES (99, now())")
    with pytest.raises(StoreTooNew, match=r"migration 99.*upgrade"):
        migrate(conn, shop, NOW)


def test_an_unreachable_server_is_an_error_without_its_password() -> None:
    with pytest.raises(StoreUnavailable) as refused:
        connect("postgresql://ann:secret@127.0.0.1:1/metrics")
    assert "127.0.0.1:1/metrics" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
