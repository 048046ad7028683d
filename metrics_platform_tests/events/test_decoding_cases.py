"""Many values of records, each with what it must become: `decoding.yaml`, decoded in one Spark job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events.decode import decode
from metrics_platform.events.times import EventTimes
from metrics_platform_tests.events.records import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILE = yaml.safe_load(Path(__file__).with_name("decoding.yaml").read_text())
CASES = {case["name"]: case for case in FILE["cases"]}
LONG = {"{nines}": "9" * 1200, "{deep}": "[" * 100_000}
NOW, FIRST = FILE["now"], FILE["first"]


def kind_of_file() -> EventKind:
    described = FILE["kind"]
    fields = (
        Field(name, type_, name in described["required"], name in described["spared"])
        for name, type_ in described["fields"].items()
    )
    return EventKind("visits", ("web.visits",), described["id"], described["time"], tuple(fields))


def value(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    text = case.get("record") or f'{{"id":"v","at":1772452800000,{case["fields"]}}}'
    for name, long in LONG.items():
        text = text.replace(name, long)
    return text.encode()


def written(read: Any) -> str | None:
    """A value as the file writes it."""
    if isinstance(read, bool):
        return str(read).lower()
    if isinstance(read, datetime):
        places = (
            "microseconds" if read.microsecond % 1000 else "milliseconds" if read.microsecond else "seconds"
        )
        return read.astimezone(UTC).isoformat(timespec=places).replace("+00:00", "Z")
    if isinstance(read, Decimal):
        return f"{read:f}"
    return read.isoformat() if isinstance(read, date) else None if read is None else str(read)


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> dict[str, dict[str, Any]]:
    accepted = EventTimes(FIRST, timedelta(minutes=5))
    records = frame(spark, [value(case) for case in CASES.values()], NOW)
    found = decode(records, kind_of_file(), NOW, accepted).orderBy("_offset").toArrow().to_pylist()
    return dict(zip(CASES, found, strict=True))


def test_names_are_different() -> None:
    assert len(CASES) == len(FILE["cases"])


@pytest.mark.parametrize("name", CASES)
def test_a_record_becomes_the_senders_value_or_a_reason(rows: dict[str, dict[str, Any]], name: str) -> None:
    case, row = CASES[name], rows[name]
    assert (row["_reason"], row["_impaired"]) == (case.get("reject"), case.get("impaired"))
    assert {field: written(row[field]) for field in case.get("accept", {})} == case.get("accept", {})
    assert (row["_detail"] is None) == (row["_reason"] is None and row["_impaired"] is None)
    assert case.get("hint", "") in (row["_detail"] or "")


def test_details_are_short(rows: dict[str, dict[str, Any]]) -> None:
    assert max(len(row["_detail"] or "") for row in rows.values()) < 250


def test_plain_records_read_alike_by_the_exact_rules(spark: SparkSession) -> None:
    """A fraction of zero in one field makes a record be read exactly: the other fields stay as they were."""
    kind = replace(kind_of_file(), fields=(*kind_of_file().fields, Field("odd", "int")))
    accepted = EventTimes(FIRST, timedelta(minutes=5))
    texts = [
        f'{{"id":"v","at":1772452800000,{case["fields"]}}}'
        for case in CASES.values()
        if "fields" in case and "accept" in case and "{" not in case["fields"]
    ]
    read = []
    for odd in ("1", "1.0"):
        values = [f'{text[:-1]},"odd":{odd}}}'.encode() for text in texts]
        decoded = decode(frame(spark, values, NOW), kind, NOW, accepted).drop("_value")
        read.append(decoded.orderBy("_offset").toArrow().to_pylist())
    assert read[0] == read[1]
