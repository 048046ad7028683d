"""Comparing two catalogues: which definitions change, and in which parts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from metrics_platform.catalog.changes import Change, Difference, changes
from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog

SHOP = """\
timezone: Europe/Berlin
start: 2026-01-01
retention: {minute: 7d, hour: 90d, day: 3y, week: 10y}
events:
  orders:
    topics: [web.orders]
    id: event_id
    time: at
    fields: {event_id: string, at: epoch_millis, country: string, amount: double, note: string}
metrics:
  revenue: {description: Euros., events: orders, dimensions: [country], measure: {sum: amount}}
  orders: {events: orders, filter: amount > 0, measure: count}
"""

Edit = Callable[..., Catalog]


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """The catalogue, with each `old` text replaced by the `new` one."""

    def edited(*replacements: tuple[str, str]) -> Catalog:
        text = SHOP
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "shop.yaml"
        path.write_text(text)
        return load_catalog(path)

    return edited


def names(found: list[Change]) -> dict[str, str]:
    return {change.metric.name: change.word for change in found}


def test_a_changed_description_is_no_change_of_the_definition(edit: Edit) -> None:
    later = edit(("Euros.", "Money."), ("{events: orders, f", "{owner: team:shop, events: orders, f"))
    assert changes(edit(), later) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timezone: Europe/Berlin", "timezone: UTC"),
        ("[web.orders]", "[web.orders, web.orders2]"),
        ("id: event_id", "clusters: [east]\n    id: event_id"),
        ("id: event_id", "id: note"),
        ("at: epoch_millis", "at: timestamp"),
        ("event_id: string", "event_id: bigint"),
    ],
)
def test_another_time_zone_topic_cluster_id_or_time_changes_every_metric(
    edit: Edit, old: str, new: str
) -> None:
    assert names(changes(edit(), edit((old, new)))) == {"revenue": "changed", "orders": "changed"}


def test_a_fields_type_changes_the_metrics_that_use_it(edit: Edit) -> None:
    assert changes(edit(), edit(("note: string", "note: int"))) == []
    assert names(changes(edit(), edit(("country: string", "country: int")))) == {"revenue": "changed"}
    [_, orders] = changes(edit(), edit(("amount: double", "amount: 'decimal(12,2)'")))
    assert orders.differences == [
        Difference(
            "fields",
            "amount double, at epoch_millis, event_id string",
            "amount decimal(12,2), at epoch_millis, event_id string",
        )
    ]


def test_a_change_lists_the_parts_that_differ(edit: Edit) -> None:
    later = edit(("[country]", "{land: upper(country)}"), ("{sum: amount}", "{max: amount}"))
    [change] = changes(edit(), later)
    assert (change.word, change.metric.name) == ("changed", "revenue")
    assert change.differences == [
        Difference("dimensions", "country string", "land string = upper(country)"),
        Difference("measure", "sum of amount (double)", "max of amount (double)"),
    ]


def test_added_and_removed_metrics_are_changes(edit: Edit) -> None:
    found = changes(edit(), edit(("  orders: {", "  paid_orders: {")))
    assert names(found) == {"paid_orders": "new", "orders": "removed"}
    assert Difference("filter", None, "amount > 0") in found[0].differences
    assert Difference("filter", "amount > 0", None) in found[1].differences
