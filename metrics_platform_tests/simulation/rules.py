"""Metrics of a random catalogue, written in Spark SQL for the platform and in DuckDB's SQL for comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

MEASURES = ("count", "sum", "min", "max", "avg", "distinct", "percentiles")
ESTIMATED = ("distinct", "percentiles")
RANKS = ((0.5,), (0.5, 0.95, 0.99), (0.01, 0.25, 0.999))


@dataclass(frozen=True)
class Term:
    """An expression in both dialects."""

    spark: str
    duck: str
    type: str  # its type in the catalogue
    fields: tuple[str, ...]  # the fields that it uses
    overflows: str = "false"  # in DuckDB's SQL, whether it has a value that its type cannot hold


@dataclass(frozen=True)
class Rule:
    """A metric with its expressions in both dialects."""

    name: str
    kind: str
    measure: str
    input: Term | None = None
    at: tuple[float, ...] = ()
    filter: Term | None = None
    dimensions: tuple[tuple[str, Term], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether different values are counted truly: in about half of the metrics that count them."""
        return self.measure == "distinct" and len(self.dimensions) % 2 == 0

    def entry(self) -> dict[str, Any]:
        """The metric's entry in the catalogue file."""
        measure: Any = self.measure
        if self.input:
            measure = {self.measure: self.input.spark, "type": self.input.type}
            measure |= {"at": list(self.at)} if self.at else {}
            measure |= {"exact": True} if self.exact else {}
        named = {name: {"expression": term.spark, "type": term.type} for name, term in self.dimensions}
        return {
            "events": self.kind,
            "measure": measure,
            **({"filter": self.filter.spark} if self.filter else {}),
            **({"dimensions": named} if named else {}),
        }


def _same(text: str, type_: str, *fields: str) -> Term:
    return Term(text, text, type_, fields or (text,))


# TIME stands for the kind's own time field.
_FILTERS = (
    _same("flag", "boolean"),
    _same("not flag", "boolean", "flag"),
    _same("coalesce(flag, true)", "boolean", "flag"),
    _same("code > 0", "boolean", "code"),
    _same("code % 2 = 0 or code is null", "boolean", "code"),
    _same("country = 'DE'", "boolean", "country"),
    _same("not (country = 'DE')", "boolean", "country"),
    _same("page like '/shop/%'", "boolean", "page"),
    _same("page in ('', '/', 'null')", "boolean", "page"),
    _same("amount >= 10.5", "boolean", "amount"),
    _same("took < 250", "boolean", "took"),
    _same("total between 0 and 50000", "boolean", "total"),
    _same("date_part('hour', TIME) >= 12", "boolean", "TIME"),
)
_DIMENSIONS = (
    _same("page", "string"),
    _same("country", "string"),
    _same("code", "int"),
    _same("total % 5", "bigint", "total"),
    _same("price", "decimal(10,2)"),
    _same("ratio", "double"),
    _same("flag", "boolean"),
    _same("born", "date"),
    _same("seen", "timestamp"),
    _same("coalesce(country, '?')", "string", "country"),
    _same("split_part(page, '/', 2)", "string", "page"),
    _same("concat_ws('|', country, page)", "string", "country", "page"),
    _same("length(page)", "int", "page"),
    _same("code > 1", "boolean", "code"),
    _same("date_part('hour', TIME)", "int", "TIME"),
    _same("cast(TIME as date)", "date", "TIME"),
)
_NUMBERS = (
    _same("code", "int"),
    _same("total", "bigint"),
    _same("amount", "decimal(12,2)"),
    _same("price", "decimal(10,2)"),
    _same("took", "double"),
    _same("length(page)", "int", "page"),
    _same("amount * 2", "decimal(14,2)", "amount"),
    _same("took * 2", "double", "took"),
    _same("case when flag then amount end", "decimal(12,2)", "flag", "amount"),
)
# Inputs of which many do not fit into their type. Sums of the second one do not fit either.
_TOO_LARGE = (
    Term(
        "total * 200000000000000",
        "try_cast(total::HUGEINT * 200000000000000 AS BIGINT)",
        "bigint",
        ("total",),
        "total IS NOT NULL AND try_cast(total::HUGEINT * 200000000000000 AS BIGINT) IS NULL",
    ),
    Term(
        "took * 5e305",
        "nullif(took * 5e305, 'inf'::DOUBLE)",
        "double",
        ("took",),
        "coalesce(isinf(took * 5e305), false)",
    ),
)
_VALUES = (
    _same("visitor", "string"),
    _same("page", "string"),
    _same("total", "bigint"),
    _same("concat_ws('|', country, visitor)", "string", "country", "visitor"),
)


# A metric that cannot be computed of some events, and the pattern of their ids. It is in some weeks.
POISONED, POISONOUS_IDS = "poisoned", "%5 \N{OWL}%"


def poisoned(kind: str, id_field: str) -> dict[str, Any]:
    """The catalogue's entry of the metric that fails by some events of a kind."""
    expression = f"url_decode(if({id_field} like '{POISONOUS_IDS}', '%zz', 'other'))"
    return {"events": kind, "measure": "count", "dimensions": {"d": {"expression": expression}}}


def everything(kind: str) -> Rule:
    """The metric that counts every event of a kind."""
    return Rule(f"every_{kind}", kind, "count")


def draw_rule(random: Random, name: str, kind: str, measure: str, fields: Collection[str], time: str) -> Rule:
    """A random metric with the measure (or `count`, where the fields give it no input)."""
    pool = {"count": (), "distinct": _VALUES}.get(measure, _NUMBERS)
    inputs = _usable(pool, fields, time)
    if not inputs:
        measure = "count"
    filters, dimensions = _usable(_FILTERS, fields, time), _usable(_DIMENSIONS, fields, time)
    chosen = random.sample(dimensions, min(random.choice((0, 1, 1, 2, 3)), len(dimensions)))
    return Rule(
        name,
        kind,
        measure,
        random.choice(inputs) if inputs else None,
        random.choice(RANKS) if measure == "percentiles" else (),
        random.choice(filters) if filters and random.random() < 0.5 else None,
        tuple((f"d{number}", term) for number, term in enumerate(chosen)),
    )


def overflowing(random: Random, kind: str, fields: Collection[str]) -> list[Rule]:
    """A metric whose inputs overflow, if the kind has a field for it."""
    if not (usable := _usable(_TOO_LARGE, fields, "")):
        return []
    measure = random.choice([measure for measure in MEASURES if measure not in ("count", "distinct")])
    ranks = random.choice(RANKS) if measure == "percentiles" else ()
    return [Rule("overflowing", kind, measure, random.choice(usable), ranks)]


def _usable(terms: Sequence[Term], fields: Collection[str], time: str) -> list[Term]:
    return [
        replace(term, spark=term.spark.replace("TIME", time), duck=term.duck.replace("TIME", time))
        for term in terms
        if all(field == "TIME" or field in fields for field in term.fields)
    ]
