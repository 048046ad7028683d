"""The model: versions of definitions and the columns of a relation."""

from dataclasses import replace
from typing import Any

import pytest

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.measures import Avg, Count, Percentiles, Sum
from metrics_platform.catalog.model import Dimension, Field, Metric, pg_type
from metrics_platform.settings import PACKAGE

METRIC = Metric(
    name="revenue",
    kind="orders",
    measure=Sum("amount", "decimal(12,2)"),
    dimensions=(Dimension("country", "country", "string"),),
    filter="amount > 0",
    description="Euros paid.",
    owner="team:shop",
)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "refunds"},
        {"filter": "amount >= 0"},
        {"filter": None},
        {"dimensions": ()},
        {"dimensions": (Dimension("land", "country", "string"),)},
        {"dimensions": (Dimension("country", "upper(country)", "string"),)},
        {"dimensions": (Dimension("country", "country", "int"),)},
        {"measure": Avg("amount", "decimal(12,2)")},
        {"measure": Sum("amount * 2", "decimal(12,2)")},
        {"measure": Sum("amount", "double")},
        {"measure": Count()},
        {"basis": (("time zone", "UTC"),)},
    ],
    ids=str,
)
def test_another_definition_has_another_version(change: dict[str, Any]) -> None:
    assert replace(METRIC, **change).version != METRIC.version


@pytest.mark.parametrize("change", [{"description": "Money."}, {"owner": None}], ids=str)
def test_description_and_owner_do_not_change_the_version(change: dict[str, Any]) -> None:
    assert replace(METRIC, **change).version == METRIC.version


def test_other_ranks_have_another_version() -> None:
    one = replace(METRIC, measure=Percentiles("amount", "double", at=(0.5,)))
    other = replace(METRIC, measure=Percentiles("amount", "double", at=(0.5, 0.9)))
    assert one.version != other.version


def test_a_version_is_twelve_hex_digits_and_the_same_in_every_process() -> None:
    assert METRIC.version == "beb274ab4888"


def test_columns_are_dimensions_then_events_then_state_then_values() -> None:
    metric = replace(METRIC, measure=Avg("amount", "decimal(12,2)"))
    assert [(column.name, column.pg_type) for column in metric.columns] == [
        ("country", "text"),
        ("events", "bigint"),
        ("overflowed", "bigint"),
        ("total", "numeric"),
        ("inputs", "bigint"),
        ("value", "numeric"),
    ]
    assert [column.name for column in metric.value_columns] == ["value"]


@pytest.mark.parametrize(
    ("spark_type", "column"),
    [("string", "text"), ("int", "bigint"), ("decimal(38,10)", "numeric"), ("timestamp", "timestamptz")],
)
def test_spark_types_have_a_column_type(spark_type: str, column: str) -> None:
    assert pg_type(spark_type) == column


def test_a_time_in_milliseconds_is_decoded_to_a_timestamp() -> None:
    assert Field("at", "epoch_millis").column_type == "timestamp"
    assert Field("amount", "decimal(12,2)").column_type == "decimal(12,2)"


def test_kinds_fields_and_metrics_are_looked_up_by_name() -> None:
    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    assert catalog.metric("revenue_by_country").kind == "orders"
    assert catalog.kind("orders").field("amount").type == "decimal(12,2)"
    with pytest.raises(KeyError):
        catalog.metric("revenue")
    with pytest.raises(KeyError):
        catalog.kind("orders").field("price")
