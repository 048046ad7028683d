"""Loading a catalogue: the model of a valid one, and the problem with its line for each mistake."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from metrics_platform.catalog.loading.catalog import CatalogError, load_catalog
from metrics_platform.catalog.loading.durations import format_duration, parse_duration
from metrics_platform.catalog.measures import Avg, Count, Distinct, ExactDistinct, Measure, Percentiles, Sum
from metrics_platform.catalog.model import Accuracy, Catalog, Dimension, Field, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.settings import PACKAGE

GOOD = """\
timezone: Europe/Berlin
start: 2026-01-01
freshness: 3m
future_bound: 5m
retention: {minute: 7d, hour: 90d, day: 3y, week: 10y}
events:
  clicks:
    topics: [web.clicks]
    id: event_id
    time: at
    fields:
      event_id: string
      at: epoch_millis
      page: string
      userId: long
  orders:
    topics: [web.orders]
    id: event_id
    time: at
    fields: {event_id: string, at: timestamp, amount: "decimal(12, 2)", n: integer, ms: double, paid: boolean}
metrics:
  clicks_per_page:
    events: clicks
    filter: page is not null
    dimensions:
      page: lower(page)
    measure: count
  revenue:
    events: orders
    measure: {sum: amount}
"""


Load = Callable[[str], Catalog]
Problems = Callable[[str], list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a catalogue from its text."""

    def load_text(text: str) -> Catalog:
        path = tmp_path / "shop.yaml"
        path.write_text(text)
        return load_catalog(path)

    return load_text


@pytest.fixture
def problems(load: Load) -> Problems:
    """The problems of a catalogue's text, as `line: message`."""

    def problems_of(text: str) -> list[str]:
        with pytest.raises(CatalogError) as caught:
            load(text)
        return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]

    return problems_of


def with_metric(body: str) -> str:
    """The good catalogue with one more metric, whose body starts in line 32."""
    return f"{GOOD}  more:\n    {body}\n"


# A good catalogue -----------------------------------------------------------------------------------------


def test_the_example_catalogue_loads() -> None:
    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    measures = {metric.name: type(metric.measure) for metric in catalog.metrics}
    assert measures == {
        "clicks_per_page": Count,
        "views_by_country_and_device": Count,
        "unique_visitors_per_page": Distinct,
        "revenue_by_country": Sum,
        "average_order_value": Avg,
        "checkout_latency": Percentiles,
    }
    assert [kind.topics for kind in catalog.kinds] == [("web.interactions",), ("web.orders",)]
    assert all(metric.description and metric.owner for metric in catalog.metrics)


def test_time_zone_start_and_retention_are_read(load: Load) -> None:
    catalog = load(GOOD)
    assert (catalog.timezone, catalog.start) == ("Europe/Berlin", date(2026, 1, 1))
    assert (catalog.freshness, catalog.future_bound) == (timedelta(minutes=3), timedelta(minutes=5))
    assert catalog.retention == {
        Grain.MINUTE: timedelta(days=7),
        Grain.HOUR: timedelta(days=90),
        Grain.DAY: timedelta(days=3 * 365),
        Grain.WEEK: timedelta(days=10 * 365),
    }


def test_the_retention_of_revisions_is_read(load: Load) -> None:
    assert load(GOOD).revisions_kept == timedelta(days=2)
    assert load(GOOD.replace("week: 10y", "week: 10y, revisions: 7d")).revisions_kept == timedelta(days=7)


def test_a_metric_may_bound_its_groups(load: Load) -> None:
    assert {metric.max_groups for metric in load(GOOD).metrics} == {100_000}
    assert load(f"{GOOD}    max_groups: 5000\n").metric("revenue").max_groups == 5000


def test_a_metric_has_its_own_accuracy_or_the_catalogues_or_the_default(load: Load) -> None:
    assert {metric.accuracy for metric in load(GOOD).metrics} == {Accuracy(0.01, 0.05)}
    of_all = GOOD.replace("metrics:\n", "accuracy: {warn: 0.5%, fail: 10 %}\nmetrics:\n")
    assert {metric.accuracy for metric in load(of_all).metrics} == {Accuracy(0.005, 0.1)}
    one = load(f"{of_all}    accuracy: {{warn: 2%, fail: 2%}}\n")
    assert one.metric("revenue").accuracy == Accuracy(0.02, 0.02)
    assert one.metric("clicks_per_page").accuracy == Accuracy(0.005, 0.1)
    assert one.metric("revenue").version == load(GOOD).metric("revenue").version


def test_freshness_and_future_bound_have_defaults(load: Load) -> None:
    catalog = load(GOOD.replace("freshness: 3m\nfuture_bound: 5m\n", ""))
    assert (catalog.freshness, catalog.future_bound) == (timedelta(minutes=3), timedelta(minutes=5))


def test_id_and_time_are_always_required_and_type_aliases_are_accepted(load: Load) -> None:
    assert load(GOOD).kind("clicks").fields == (
        Field("event_id", "string", required=True),
        Field("at", "epoch_millis", required=True),
        Field("page", "string"),
        Field("userId", "bigint"),
    )
    assert load(GOOD).kind("orders").field("n").type == "int"


def test_a_field_can_be_required_and_a_kind_bound_to_clusters(load: Load) -> None:
    text = GOOD.replace("page: string", "page: {type: string, required: true}", 1)
    catalog = load(text.replace("topics: [web.clicks]", "topics: [web.clicks]\n    clusters: [east, west]"))
    assert catalog.kind("clicks").field("page").required
    assert catalog.kind("clicks").clusters == ("east", "west")


def test_a_bad_value_of_an_optional_field_can_be_null(load: Load) -> None:
    clicks = load(
        GOOD.replace("page: string", "page: {type: int, bad: null}", 1).replace("lower(page)", "page")
    )
    assert clicks.kind("clicks").field("page") == Field("page", "int", null_if_bad=True)
    assert not clicks.kind("clicks").field("userId").null_if_bad


@pytest.mark.parametrize("unit", ["epoch_seconds", "epoch_millis", "epoch_micros", "epoch_nanos"])
def test_a_time_can_be_a_number_in_several_units(load: Load, unit: str) -> None:
    field = load(GOOD.replace("at: epoch_millis", f"at: {unit}")).kind("clicks").field("at")
    assert (field.type, field.column_type, field.required) == (unit, "timestamp", True)


def test_a_time_zone_is_judged_from_the_catalogues_start(load: Load, problems: Problems) -> None:
    # Caracas was at half past until May 2016.
    caracas = GOOD.replace("Europe/Berlin", "America/Caracas")
    assert load(caracas).calendar.hour_offset == timedelta(0)
    [problem] = problems(caracas.replace("start: 2026-01-01", "start: 2016-01-01"))
    assert problem.startswith("1: timezone: time zone 'America/Caracas' changes its clocks")


def test_a_metric_keeps_its_expressions_as_they_are_written(load: Load) -> None:
    assert replace(load(GOOD).metric("clicks_per_page"), basis=()) == Metric(
        name="clicks_per_page",
        kind="clicks",
        measure=Count(),
        dimensions=(Dimension("page", "lower(page)", "string"),),
        filter="page is not null",
    )


def test_a_list_of_dimensions_groups_by_the_fields_of_these_names(load: Load) -> None:
    metric = load(with_metric("events: clicks\n    dimensions: [page, at]\n    measure: count")).metric(
        "more"
    )
    assert metric.dimensions == (Dimension("page", "page", "string"), Dimension("at", "at", "timestamp"))


@pytest.mark.parametrize(
    ("measure", "meaning"),
    [
        ("{sum: amount}", Sum("amount", "decimal(12,2)")),
        ("{avg: amount * n}", Avg("amount * n", "decimal(23,2)")),
        ("{distinct: event_id}", Distinct("event_id", "string")),
        ("{sum: 'amount / n', type: double}", Sum("amount / n", "double")),
        ("{percentiles: ms}", Percentiles("ms", "double", at=(0.5, 0.95, 0.99))),
        ("{percentiles: ms, at: [0.999]}", Percentiles("ms", "double", at=(0.999,))),
        ("{percentiles: ms, precision: 0.1%}", Percentiles("ms", "double", precision=0.001)),
        ("{distinct: event_id, exact: true}", ExactDistinct("event_id", "string")),
        ("{distinct: event_id, exact: false}", Distinct("event_id", "string")),
    ],
)
def test_a_measure_has_an_input_with_a_type(load: Load, measure: str, meaning: Measure) -> None:
    assert load(with_metric(f"events: orders\n    measure: {measure}")).metric("more").measure == meaning


def test_an_explicit_type_overrides_the_inferred_one(load: Load) -> None:
    text = with_metric("events: orders\n    dimensions: {n: {expression: n, type: long}}\n    measure: count")
    assert load(text).metric("more").dimensions == (Dimension("n", "n", "bigint"),)


# Mistakes in the file -------------------------------------------------------------------------------------


def test_a_problem_reads_as_file_line_and_message(load: Load, tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        load(GOOD.replace("Europe/Berlin", "Europe/Berlim"))
    wanted = (
        "shop.yaml:1: timezone: unknown time zone 'Europe/Berlim'; use an IANA name such as Europe/Berlin"
    )
    assert str(caught.value) == f"{tmp_path}/{wanted}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.yaml:1: there is no such file; name an existing one"):
        load_catalog(tmp_path / "none.yaml")


def test_a_folder_instead_of_a_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r":1: the file cannot be read \(Is a directory\); check path"):
        load_catalog(tmp_path)


def test_bytes_that_are_no_utf_8_are_a_problem_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"timezone: UTC\nstart: \xff\xfe\n")
    with pytest.raises(CatalogError, match=":2: this is no UTF-8 text; save the file as UTF-8"):
        load_catalog(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: the file is empty; start from the example"),
        ("# nothing but words\n", "1: the file is empty; start from the example"),
        (
            "timezone: UTC\n\tstart: x\n",
            "2: bad YAML: found character '\\t' that cannot start any token; check",
        ),
        ("timezone: [UTC\nstart: x\n", "2: bad YAML: "),
        ("timezone: 'UTC\n", "2: bad YAML: found unexpected end of stream; check indentation"),
        ("a: 1\n---\nb: 2\n", "2: bad YAML: but found another document; check"),
        ("a: \x01\n", "1: bad YAML: character "),
        ("- one\n- two\n", "1: catalogue: this must be `key: value` pairs; write events:"),
        ("just words\n", "1: catalogue: this must be `key: value` pairs; write events:"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_problem(problems: Problems, text: str, problem: str) -> None:
    assert [found[: len(problem)] for found in problems(text)] == [problem]


# Mistakes in the whole catalogue: (text, its replacement, the problem) --------------------------------------

WHOLE = [
    ("timezone:", "timezon:", "1: catalogue: unknown key 'timezon'; did you mean 'timezone'?"),
    ("start: 2026-01-01\n", "", "1: catalogue: 'start' is missing; write start: 2026-01-01"),
    (
        "freshness: 3m",
        "start: 2026-02-02",
        "3: 'start' is defined twice, first in line 2; rename or remove one",
    ),
    (
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "1: timezone: time zone 'Australia/Lord_Howe' changes its clocks",
    ),
    ("Europe/Berlin", "", "1: timezone: nothing is written here; write timezone: Europe/Berlin"),
    ("2026-01-01", "01.02.2026", "2: start: '01.02.2026' is no day; write it as 2026-01-31"),
    ("2026-01-01", "2026-02-30", "2: start: '2026-02-30' is no day; write it as 2026-01-31"),
    ("2026-01-01", "1970-01-01", "2: start: 1970-01-01 is too long ago; write a day from 2000-01-01 on"),
    (
        "freshness: 3m",
        "freshness: 180",
        "3: freshness: '180' is no length of time; write a number and a unit: 90s",
    ),
    (
        "freshness: 3m",
        "freshness: 0m",
        "3: freshness: '0m' is no time at all; write a length above zero, such as 1m",
    ),
    ("freshness: 3m", "freshness: 99999y", "3: freshness: '99999y' is too long; write at most 1000y"),
    (", week: 10y", "", "5: retention: 'week' is missing; write week: 10y"),
    ("day: 3y", "day: 0d", "5: day: '0d' is no time at all; write a length above zero, such as 1d"),
    (
        "hour: 90d",
        "hour: 24h",
        "5: hour: hour windows are rolled up into longer ones and must outlive them; write 25h",
    ),
    ("minute: 7d", "minutes: 7d", "5: retention: unknown key 'minutes'; did you mean 'minute'?"),
    ("week: 10y", "week: 10y, revisions: 2 days", "5: revisions: '2 days' is no length of time; write"),
    ("freshness: 3m", "accuracy: 1%", "3: accuracy: this must be `key: value` pairs; write fail: 5%"),
    ("freshness: 3m", "accuracy: {warn: 1%}", "3: accuracy: 'fail' is missing; write fail: 5%"),
    (
        "freshness: 3m",
        "accuracy: {warn: 0.01, fail: 5%}",
        "3: warn: '0.01' is no share; write a number and a percent sign: 0.5%, 1% or 10%",
    ),
    (
        "freshness: 3m",
        "accuracy: {warn: 5%, fail: 1%}",
        "3: accuracy: a number would fail before it warns; write the smaller share as warn",
    ),
]


@pytest.mark.parametrize(("old", "new", "problem"), WHOLE, ids=[problem for *_, problem in WHOLE])
def test_a_mistake_outside_events_and_metrics_is_reported_with_its_line(
    problems: Problems, old: str, new: str, problem: str
) -> None:
    found = problems(GOOD.replace(old, new, 1))
    assert problem in [one[: len(problem)] for one in found]
    assert len(found) <= 2  # a misspelt key is unknown and also missing


# Mistakes in kinds of events ------------------------------------------------------------------------------

KINDS = [
    ("topics: [web.clicks]", "topic: [x]", "8: clicks: unknown key 'topic'; did you mean 'topics'?"),
    (
        "topics: [web.clicks]",
        "topics: web.clicks",
        "8: topics: this must be a list; write topics: [web.orders]",
    ),
    ("topics: [web.clicks]", "topics: []", "8: topics: this must be a list; write topics: [web.orders]"),
    ("[web.clicks]", "[web clicks]", "8: topics: 'web clicks' is no Kafka topic; write letters, digits"),
    (
        "[web.orders]",
        "[web.clicks]",
        "17: topics: topic 'web.clicks' is in the kind 'clicks' too; each topic",
    ),
    ("[web.clicks]", "[a, a]", "8: topics: topic 'a' is twice in this list; each topic"),
    ("  clicks:\n", "  Web-Clicks:\n", "7: 'Web-Clicks' cannot name a kind of event: use at most 51"),
    ("  orders:\n", "  clicks:\n", "16: 'clicks' is defined twice, first in line 7; rename or remove one"),
    (
        "id: event_id",
        "id: eventid",
        "9: id: field 'eventid' is not declared under `fields`; did you mean 'event_id'?",
    ),
    (
        "time: at",
        "time: page",
        "10: time: field 'page' is string, no time; declare it as epoch_millis or timestamp",
    ),
    ("page: string", "page: strng", "14: page: unknown type 'strng'; write string"),
    (
        "page: string",
        "page: {type: string, bad: skip}",
        "14: bad: a bad value can only be read as null; write bad: null",
    ),
    (
        "page: string",
        "page: {type: string, required: true, bad: null}",
        "14: bad: a required field cannot be null; remove this or required: true",
    ),
    (
        "at: epoch_millis",
        "at: {type: epoch_millis, bad: null}",
        "7: clicks: no event can do without its id and time; remove bad: null from 'at'",
    ),
    ("page: string", "page: varchar(20)", "14: page: unknown type 'varchar(20)'; write string"),
    ("page: string", "page: object", "14: page: unknown type 'object'; write one of: bigint, boolean"),
    ("page: string", "page: decimal", "14: page: unknown type 'decimal'; write decimal(12,2)"),
    (
        "page: string",
        "page: decimal(40,2)",
        "14: page: decimal(40,2) holds no number; write decimal(digits,decimals)",
    ),
    ("page: string", "page:", "14: page: nothing is written here; write page: string"),
    ("page: string", "page: {type: float}", "14: field 'page': unknown type 'float'; write double"),
    ("page: string", "page: {required: true}", "14: page: 'type' is missing; write type: string"),
    (
        "page: string",
        "page: {type: string, required: yes}",
        "14: required: 'yes' is neither true nor false; write",
    ),
    (
        "page: string",
        "page: {type: string, needed: true}",
        "14: page: unknown key 'needed'; write one of: bad, required",
    ),
    (
        "userId: long",
        "_user: long",
        "15: field '_user': names with a leading _ are the platform's own; rename it",
    ),
    (
        "userId: long",
        "event_hour: long",
        "15: field 'event_hour': the raw store has that column itself; rename the field",
    ),
    ("userId: long", "user-id: long", "15: 'user-id' cannot name a field: write letters, digits and _"),
    (
        "userId: long",
        "Page: long",
        "15: fields 'page' and 'Page' differ only in case, which SQL ignores; remove one",
    ),
    ("userId: long", "page: long", "15: 'page' is defined twice, first in line 14; rename or remove one"),
    ("userId: long", "? [a, b]\n      : long", "15: fields: a key must be one word; quote it"),
]


@pytest.mark.parametrize(("old", "new", "problem"), KINDS, ids=[problem for *_, problem in KINDS])
def test_a_mistake_in_a_kind_of_event_is_reported_with_its_line(
    problems: Problems, old: str, new: str, problem: str
) -> None:
    found = problems(GOOD.replace(old, new, 1))
    assert problem in [one[: len(problem)] for one in found]


# Mistakes in metrics: the body of one more metric, whose first line is 32 ---------------------------------

COUNT = "\n    measure: count"
ON_CLICKS = "events: clicks" + COUNT
METRICS = [
    ("events: klicks" + COUNT, "32: events: unknown kind of event 'klicks'; did you mean 'clicks'?"),
    ("events: clicks", "31: more: 'measure' is missing; write measure: count"),
    ("measure: count", "31: more: 'events' is missing; write events: orders"),
    (ON_CLICKS + "\n    filters: page = 'x'", "34: more: unknown key 'filters'; did you mean 'filter'?"),
    (
        ON_CLICKS + "\n    owner: web",
        "34: owner: 'web' is no owner; write a team as team:web, or an e-mail address",
    ),
    # filters
    (ON_CLICKS + "\n    filter: pge = 'x'", "34: filter: unknown field 'pge'; did you mean 'page'?"),
    (ON_CLICKS + "\n    filter: Page = 'x'", "34: filter: unknown field 'Page'; did you mean 'page'?"),
    (ON_CLICKS + "\n    filter: page.x = 'x'", "34: filter: unknown field 'page.x'; did you mean 'page'?"),
    (
        ON_CLICKS + "\n    filter: _event_id = 'x'",
        "34: filter: unknown field '_event_id'; did you mean 'event_id'?",
    ),
    (
        ON_CLICKS + "\n    filter: lower(page)",
        "34: filter: 'lower(page)' is string, not true or false; write a",
    ),
    (
        ON_CLICKS + "\n    filter: page = = 'x'",
        "34: filter: bad expression 'page = = 'x'': stuck at '='; write one",
    ),
    (ON_CLICKS + "\n    filter: page 'x'", "34: filter: bad expression 'page 'x'': stuck at ''x''; write"),
    (ON_CLICKS + "\n    filter: (page = 'x'", "34: filter: bad expression '(page = 'x''"),
    (
        ON_CLICKS + "\n    filter: page = 'x",
        "34: filter: bad expression 'page = 'x': a quote is not closed; close it",
    ),
    (
        ON_CLICKS + "\n    filter: page = 'x'; drop table y",
        "34: filter: ';' does not belong in an expression",
    ),
    (ON_CLICKS + "\n    filter: page = 'x' -- y", "34: filter: SQL comments do not belong in an expression"),
    (ON_CLICKS + "\n    filter: select page", "34: filter: bad expression 'select page'"),
    (
        ON_CLICKS + "\n    filter: {page: x}",
        "34: filter: this must be one value; write filter: type = 'click'",
    ),
    (
        ON_CLICKS + "\n    filter: count(*) > 1",
        "34: filter: count() is an aggregate, but an expression sees one event",
    ),
    (ON_CLICKS + "\n    filter: hll_sketch_agg(page) = x", "34: filter: hll_sketch_agg() is an aggregate"),
    (ON_CLICKS + "\n    filter: rank() over (order by at) = 1", "34: filter: rank() is a window function"),
    (
        ON_CLICKS + "\n    filter: page in (select 'x')",
        "34: filter: a subquery cannot be used, an expression sees one",
    ),
    (
        ON_CLICKS + "\n    filter: exists (select 1)",
        "34: filter: a subquery cannot be used, an expression sees one",
    ),
    (
        ON_CLICKS + "\n    filter: rand() < 0.5",
        "34: filter: rand() gives another result each time or place it runs",
    ),
    (
        ON_CLICKS + "\n    filter: at > current_timestamp()",
        "34: filter: current_timestamp() gives another result",
    ),
    (ON_CLICKS + "\n    filter: at > current_date", "34: filter: current_date() gives another result"),
    (ON_CLICKS + "\n    filter: at > now()", "34: filter: now() gives another result"),
    (
        ON_CLICKS + "\n    filter: at > timestamp 'now'",
        "34: filter: 'now' reads the clock, so numbers could not be",
    ),
    (
        ON_CLICKS + "\n    filter: unix_timestamp() > userId",
        "34: filter: unix_timestamp() gives another result",
    ),
    (ON_CLICKS + "\n    filter: page = uuid()", "34: filter: uuid() gives another result"),
    (
        ON_CLICKS + "\n    filter: lowr(page) = 'x'",
        "34: filter: unknown function 'lowr'; did you mean 'lower'?",
    ),
    (
        ON_CLICKS + "\n    filter: page = :x",
        "34: filter: ':x' is a placeholder, which nothing fills; write the value",
    ),
    # dimensions
    (
        ON_CLICKS + "\n    dimensions: page",
        "34: dimensions: this must be `key: value` pairs; write dimensions: [page]",
    ),
    (ON_CLICKS + "\n    dimensions: [page, page]", "34: dimension 'page' is listed twice; remove one"),
    (
        ON_CLICKS + "\n    dimensions: [lower(page)]",
        "34: dimensions: 'lower(page)' needs a name; write dimensions: {",
    ),
    (ON_CLICKS + "\n    dimensions: [pge]", "34: pge: unknown field 'pge'; did you mean 'page'?"),
    (
        ON_CLICKS + "\n    dimensions: [userId]",
        "34: 'userId' cannot name a dimension: use at most 51 lower-case",
    ),
    (
        ON_CLICKS + "\n    dimensions: {p: max(page)}",
        "34: p: max() is an aggregate, but an expression sees one event",
    ),
    (ON_CLICKS + "\n    dimensions: {p: '*'}", "34: p: '*' names no field; write the field's name"),
    (
        ON_CLICKS + "\n    dimensions: {p: 'explode(array(page))'}",
        "34: p: explode() makes many rows of one event",
    ),
    (
        ON_CLICKS + "\n    dimensions: {label: page}",
        "34: 'label' is a column that the platform adds itself; write",
    ),
    (
        ON_CLICKS + "\n    dimensions: {events: page}",
        "34: 'events' is a column that the platform adds itself",
    ),
    (ON_CLICKS + "\n    dimensions: {ctid: page}", "34: 'ctid' is a column that the platform adds itself"),
    (
        ON_CLICKS + "\n    dimensions: {user: page}",
        "34: PostgreSQL reads an unquoted 'user' as a value of its own, not as the column; write",
    ),
    (
        ON_CLICKS + "\n    dimensions: {'null': page}",
        "34: PostgreSQL reads an unquoted 'null' as a value of its own",
    ),
    (
        ON_CLICKS + "\n    dimensions: {p: page, p: at}",
        "34: 'p' is defined twice, first in line 34; rename or remove",
    ),
    (ON_CLICKS + "\n    dimensions: {p: page + 1}", "34: p: the type of 'page + 1' cannot be told"),
    (
        ON_CLICKS + "\n    dimensions: {p: 'split(page, x)'}",
        "34: p: unknown field 'x'; write one of: at, event_id",
    ),
    (
        ON_CLICKS + "\n    dimensions: {p: {type: string}}",
        "34: p: 'expression' is missing; write expression: ",
    ),
    (
        ON_CLICKS + "\n    dimensions: {p: {expression: page, type: txt}}",
        "34: type: unknown type 'txt'; write",
    ),
    (
        ON_CLICKS + "\n    dimensions: {p: {expression: at, type: epoch_millis}}",
        "34: type: unknown type 'epoch_millis'",
    ),
    # measures
    ("events: orders\n    measure: sum", "33: measure: sum needs an input; write measure: {sum: FIELD}"),
    ("events: orders\n    measure: average", "33: measure: unknown measure 'average'; write 'avg'"),
    ("events: orders\n    measure: {smu: amount}", "33: measure: unknown measure 'smu'; did you mean 'sum'?"),
    (
        "events: orders\n    measure: {count: amount}",
        "33: measure: count takes no input; write measure: count",
    ),
    ("events: orders\n    measure: {type: double}", "33: measure: no measure is named; write one of: count"),
    (
        "events: orders\n    measure: {sum: amount, avg: amount}",
        "33: measure: a metric has one measure, not sum and",
    ),
    (
        "events: orders\n    measure: {sum: amount, sum: ms}",
        "33: 'sum' is defined twice, first in line 33; rename",
    ),
    (
        "events: orders\n    measure: {sum: event_id}",
        "33: sum: 'event_id' is string, no number; use a numeric field",
    ),
    ("events: orders\n    measure: {min: at}", "33: min: 'at' is timestamp, no number; use a numeric field"),
    (
        "events: orders\n    measure: {avg: paid}",
        "33: avg: 'paid' is boolean, no number; use a numeric field",
    ),
    ("events: orders\n    measure: {sum: amont}", "33: sum: unknown field 'amont'; did you mean 'amount'?"),
    (
        "events: orders\n    measure: {sum: amount / 3}",
        "33: sum: the type of 'amount / 3' cannot be told; write measure",
    ),
    (
        "events: orders\n    measure: {sum: sum(amount)}",
        "33: sum: sum() is an aggregate, but an expression sees one",
    ),
    (
        "events: orders\n    measure: {sum: round(ms, 2)}",
        "33: measure: unknown measure '2)'; write one of: avg",
    ),
    (
        "events: orders\n    measure: {sum: amount, at: [0.5]}",
        "33: sum: `at` belongs to percentiles alone; remove it",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, exact: true}",
        "33: percentiles: `exact` belongs to distinct alone; remove it",
    ),
    (
        "events: orders\n    measure: {distinct: ms, exact: 1}",
        "33: exact: '1' is neither true nor false; write exact: true",
    ),
    (
        "events: orders\n    measure: {distinct: ms, precision: 1%}",
        "33: distinct: `precision` belongs to percentiles alone; remove it",
    ),
    *(
        (
            f"events: orders\n    measure: {{percentiles: ms, precision: {wrong}}}",
            "33: precision: percentiles are within 0.01% to 5% of rank; write precision: 0.3%",
        )
        for wrong in ("0%", "6%")
    ),
    (
        "events: orders\n    measure: {percentiles: ms, precision: 0.003}",
        "33: precision: '0.003' is no share; write a number",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: []}",
        "33: at: this must be a list; write at: [0.5, 0.95, 0.99]",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: 0.5}",
        "33: at: this must be a list; write at: [0.5",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: [95]}",
        "33: at: 95 is no rank between 0 and 1; write 0.95",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: [0]}",
        "33: at: 0 is no rank between 0 and 1; write 0.95",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: [nan]}",
        "33: at: nan is no rank between 0 and 1; write",
    ),
    ("events: orders\n    measure: {percentiles: ms, at: [p50]}", "33: at: 'p50' is no number; write a rank"),
    (
        "events: orders\n    measure: {percentiles: ms, at: [0.5, .50]}",
        "33: at: 0.5 is listed twice; remove one",
    ),
    (
        "events: orders\n    measure: {percentiles: ms, at: [0.5]}\n    dimensions: {p50: paid}",
        "34: 'p50' is a column",
    ),
    (
        "events: orders\n    measure: {sum: amount}\n    dimensions: {total: paid}",
        "34: 'total' is a column that the",
    ),
]


@pytest.mark.parametrize(("body", "problem"), METRICS, ids=[problem for _, problem in METRICS])
def test_a_mistake_in_a_metric_is_one_problem(problems: Problems, body: str, problem: str) -> None:
    assert [found[: len(problem)] for found in problems(with_metric(body))] == [problem]


def test_a_reserved_word_that_gives_a_syntax_error_can_name_a_dimension(load: Load) -> None:
    catalog = load(with_metric(ON_CLICKS + "\n    dimensions: {order: page}"))
    assert [one.name for one in catalog.metric("more").dimensions] == ["order"]


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("Revenue", "revenue"),
        ("clicksPerPage", "clicks_per_page"),
        ("clicks-per-page", "clicks_per_page"),
        ("95th", "m_95th"),
        ("_hidden", "hidden"),
        ("größe", "gr_e"),
        ('"a; drop table b"', "a_drop_table_b"),
        ("a" * 52, "a" * 51),
        ("日本", "m"),
    ],
)
def test_a_name_that_is_no_sql_identifier_is_refused_with_a_suggestion(
    problems: Problems, name: str, better: str
) -> None:
    found = problems(GOOD + f"  {name}:\n    {ON_CLICKS}\n")
    assert len(found) == 1
    assert found[0].startswith("31: ")
    assert found[0].endswith(f"starting with a letter; write {better}")


def test_two_metrics_of_the_same_name_are_a_problem(problems: Problems) -> None:
    text = GOOD + f"  revenue:\n    {ON_CLICKS}\n"
    assert problems(text) == ["31: 'revenue' is defined twice, first in line 28; rename or remove one"]


def test_a_catalogue_without_metrics_is_refused(problems: Problems) -> None:
    text = GOOD[: GOOD.index("metrics:")] + "metrics:\n"
    assert problems(text)[0].startswith("21: metrics: this must be `key: value` pairs; write metrics:")


# Many mistakes --------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_together_in_the_order_of_the_file(problems: Problems) -> None:
    text = (
        GOOD.replace("2026-01-01", "soon")
        .replace("page: string", "page: strin")
        .replace("{sum: amount}", "sum")
    )
    assert [found.split(";")[0] for found in problems(text)] == [
        "2: start: 'soon' is no day",
        "14: page: unknown type 'strin'",
        "30: measure: sum needs an input",
    ]


def test_a_mistake_in_a_field_is_not_repeated_where_the_field_is_used(problems: Problems) -> None:
    text = with_metric("events: clicks\n    dimensions: {p: lower(page)}\n    measure: {distinct: page}")
    assert len(problems(text.replace("page: string", "page: strin"))) == 1


def test_metrics_over_a_wrong_kind_give_no_further_problems(problems: Problems) -> None:
    text = GOOD.replace("    fields: {event_id: string, at: timestamp, ", "    fields: 3 # {")
    assert problems(text) == ["20: fields: this must be `key: value` pairs; write fields: " + FIELDS_EXAMPLE]


FIELDS_EXAMPLE = "{event_id: string, event_time: epoch_millis}"


def test_every_problem_is_one_line_that_says_what_to_write(problems: Problems) -> None:
    for body, _ in METRICS:
        for found in problems(with_metric(body)):
            assert "\n" not in found
            assert "; " in found


def test_a_mistake_in_an_expression_of_several_lines_has_the_first_line(problems: Problems) -> None:
    text = with_metric(
        "events: clicks\n    filter: >\n      page = 'x'\n      and pge = 'y'\n    measure: count"
    )
    assert problems(text) == ["33: filter: unknown field 'pge'; did you mean 'page'?"]


# Lengths of time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("3m", timedelta(minutes=3)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("10w", timedelta(weeks=10)),
        ("3y", timedelta(days=1095)),
        (" 3 m ", timedelta(minutes=3)),
    ],
)
def test_a_number_and_a_unit_are_parsed_as_a_duration(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize("text", ["", "m", "3", "3 minutes", "-3m", "1.5h", "3M", "0s", "9999999999s", "٣m"])
def test_other_texts_are_refused_as_durations(text: str) -> None:
    with pytest.raises(ValueError, match="; write"):
        parse_duration(text)
