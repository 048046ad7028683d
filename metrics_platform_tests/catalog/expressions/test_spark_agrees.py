"""Types and functions of expressions, as inferred without Spark, agree with Spark itself."""

import json
import subprocess
import sys
from typing import TypedDict

import pytest

from metrics_platform.catalog.expressions import functions
from metrics_platform.catalog.expressions.arithmetic import widen
from metrics_platform.catalog.expressions.parsing import ExpressionError, check_expression

FIELDS = {
    "n": "int",
    "big": "bigint",
    "x": "double",
    "m": "decimal(12,2)",
    "s": "string",
    "t": "timestamp",
    "d": "date",
    "ok": "boolean",
}
# One event, in which nothing is too large.
EVENT = {
    "n": "7",
    "big": "5000000000",
    "x": "2.5",
    "m": "12.34",
    "s": "'a/b,x'",
    "t": "'2026-03-02 12:34:56'",
    "d": "'2026-03-02'",
    "ok": "true",
}

# Expressions whose type must be inferred.
CERTAIN = """
n; big; x; m; s; t; d; ok; 'x'; 1; 10000000000; 1.5; .5; 1e3; 1L; true; date '2026-01-01'; (m); -m; abs(m)
-n; n + 1; n + big; n * x; n / 2; x / 2; x % 2; n % 2; n div 2; m + m; m * 2; m * -1; m * 1.5; m * n
(m + 1) * 2; 1 - m; m - big; n * 1.5; x * 1.5; x + m; m * x; n + x + m; m + 0.125; n + 10000000000
coalesce(s, 'none'); coalesce(n, 0); coalesce(m, 0); coalesce(m, 0.001); coalesce(m, big); coalesce(x, 0)
coalesce(cast(n as decimal(6,2)), 0); nullif(s, ''); nullif(m, 0); nvl(s, 'x'); nvl2(s, 'a', 'b')
if(ok, m, 0); if(ok, null, s); case when n > 1 then n else big end; case when ok then x end
case when m > 1 then 'big' else 'small' end; case when m > 1 then 1 else 0 end
case when ok then 1 else 1.5 end; case n when 1 then 'x' when 2 then 'y' end; greatest(n, big)
greatest(m, x); least(m, m); floor(x); ceil(x); round(x, 1); round(n); sqrt(n); power(n, 2); ln(x); upper(s)
lower(trim(s)); concat(s, 'x'); s || 'x'; substring(s, 1, 2); left(s, 2); lpad(s, 2, '0'); initcap(s)
split(s, '/')[0]; element_at(split(s, '/'), 1); split_part(s, '/', 1); substring_index(s, '.', 1)
replace(s, 'a', 'b'); regexp_extract(s, 'a(b)', 1); regexp_replace(s, 'a', 'b'); parse_url(s, 'HOST')
get_json_object(s, '$.a'); url_decode(s); try_url_decode(s); url_encode(s); md5(s)
concat_ws('-', s, s); length(s); instr(s, 'x'); size(split(s, ','))
crc32(s); xxhash64(s); hash(s); sha2(s, 256); year(t); month(t); hour(t); minute(t); dayofweek(t)
weekday(t); quarter(d); extract(hour from t); date_format(t, 'yyyy'); date(t); to_date(s)
date_trunc('hour', t); trunc(d, 'month'); date_add(d, 1); d + 1; d - 1; t + interval 1 day; datediff(d, d)
timestampdiff(HOUR, t, t); to_timestamp(s); timestamp_millis(big); unix_millis(t); unix_timestamp(t)
s = 'x' and n > 1; s in ('a', 'b'); s like 'a%'; s like any ('a%', 'b%'); s rlike 'x'; s is null; isnull(s)
not ok; n between 1 and 2; startswith(s, 'x'); contains(s, 'x'); s <=> 'x'
exists(split(s, ','), y -> y = 'a'); n = '1'; cast(n as string); cast(n as decimal(10,3))
cast(m as double) * 2; cast(null as int); s::int; try_cast(s as double)
n * n; n * big - 1; abs(n); cast(x as int) * 2; floor(x) + ceil(x); coalesce(n * 2, 0); n * 2 + length(s)
element_at(split(s, '/'), n - 5); split(s, ',')[n - 6]; substring(s, n - 6, n * 2); date_add(d, n + 1)
case n * 2 when 14 then n + 1 else 0 end; log10(x) * x; if(s = 'it''s', 1, n * 2); round(n * 2)
"""

# Expressions whose type may stay unknown. If it is inferred, it must be right.
UNCERTAIN = """
m / 2; m / n; m % 2; m * m * m * m; m * n * big; round(m); round(m, 1); ceil(m); floor(m); sign(m)
pmod(n, 3); -s; s + 1; s * 2; t - t; d - d; d + interval 1 hour; extract(second from t); coalesce(n, 'x')
if(ok, 1, 'x'); coalesce(d, t); array(n); named_struct('a', n); filter(split(s, ','), y -> y > 'a')
to_timestamp_ntz(s); try_divide(m, 2); bround(x, 1); try_add(n, 1); decode(s, 'a', 'b'); to_number(s, '99')
width_bucket(x, 1.0, 2.0, 3); negative(m); date_part('hour', t); aggregate(array(1, 2), 0, (y, z) -> y + z)
transform(split(s, ','), y -> upper(y))[0]; n * 100.0 / big; zeroifnull(n)
"""

# Expressions that Spark refuses because something in them is neither true nor false.
NOT_BOOLEAN = """
s = 'x' or 'y'; s = 'x' and n; ok and (s); not s; not 'x'; ! n; if(s, 1, 2); case when n then 1 end
coalesce(ok or d, ok)
"""

# Asks Spark, in a process of its own, so that no other test uses its session.
ASK_SPARK = """
import json, sys
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
question = json.load(sys.stdin)
quick_start = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
session = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.extraJavaOptions", quick_start)
    .config("spark.sql.ansi.enabled", "false")
    .getOrCreate()
)
events = session.sql("SELECT " + ", ".join(question["fields"]))
columns = events.selectExpr(*question["expressions"]).schema
types = dict(zip(question["expressions"], (column.dataType.simpleString() for column in columns)))
def refuses(expression):
    try:
        events.selectExpr(expression)
    except AnalysisException as error:
        return "DATATYPE_MISMATCH" in str(error)
    return False

pairs = question["pairs"]
first = [f"cast(({written}) as string) as w{place}" for place, (written, _, _) in enumerate(pairs)]
second = [f"cast(({widened}) as string) as v{place}" for place, (_, widened, _) in enumerate(pairs)]
numbers = [f"({doubles}) as d{place}" for place, (_, _, doubles) in enumerate(pairs) if doubles]
row = events.selectExpr(*first, *second, *numbers).collect()[0]
different = [written for place, (written, _, _) in enumerate(pairs) if row[f"w{place}"] != row[f"v{place}"]]
refused = [expression for expression in question["no_conditions"] if refuses(expression)]
functions = [row.function for row in session.sql("SHOW SYSTEM FUNCTIONS").collect()]
print(json.dumps({"types": types, "functions": functions, "refused": refused, "different": different}))
"""


class Spark(TypedDict):
    """What Spark answers."""

    types: dict[str, str]
    functions: list[str]
    refused: list[str]
    different: list[str]  # expressions that give another value when they are widened


def expressions(text: str) -> list[str]:
    return [one.strip() for line in text.strip().splitlines() for one in line.split("; ")]


@pytest.fixture(scope="module")
def spark() -> Spark:
    """The types of all expressions and the names of all functions, according to Spark."""
    written = expressions(CERTAIN) + expressions(UNCERTAIN)
    widened = {sql: widen(sql, FIELDS) for sql in written}
    question = {
        "fields": [f"CAST({EVENT[name]} AS {type_}) AS {name}" for name, type_ in FIELDS.items()],
        "expressions": [each.sql for each in widened.values()],
        # What Spark cannot print as text is of no use here, nor what fails by the event.
        "pairs": [
            (sql, each.sql, each.in_doubles)
            for sql, each in widened.items()
            if not sql.startswith(("array", "named_struct", "filter", "to_number"))
        ],
        "no_conditions": expressions(NOT_BOOLEAN),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK_SPARK],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    types = {sql: answer["types"][each.sql] for sql, each in widened.items()}
    return Spark(
        types=types,
        functions=answer["functions"],
        refused=answer["refused"],
        different=answer["different"],
    )


def test_inferred_types_are_those_of_spark(spark: Spark) -> None:
    inferred = {sql: check_expression(sql, FIELDS).type for sql in expressions(CERTAIN)}
    assert inferred == {sql: spark["types"][sql] for sql in inferred}


def test_widening_changes_no_value_that_fits(spark: Spark) -> None:
    assert spark["different"] == []


def test_an_uncertain_type_is_not_inferred_or_is_that_of_spark(spark: Spark) -> None:
    inferred = {sql: check_expression(sql, FIELDS).type for sql in expressions(UNCERTAIN)}
    wrong = {sql: type_ for sql, type_ in inferred.items() if type_ not in (None, spark["types"][sql])}
    assert wrong == {}


def test_an_expression_with_a_condition_that_is_not_boolean_is_refused(spark: Spark) -> None:
    assert spark["refused"] == expressions(NOT_BOOLEAN)
    for sql in expressions(NOT_BOOLEAN):
        with pytest.raises(ExpressionError, match="not true or false; write a condition there"):
            check_expression(sql, FIELDS)


def test_the_known_functions_are_those_of_spark(spark: Spark) -> None:
    names = {name for name in spark["functions"] if name.replace("_", "").isalnum()}
    operators = {
        "and",
        "between",
        "case",
        "div",
        "ilike",
        "in",
        "like",
        "not",
        "or",
        "regexp",
        "rlike",
        "when",
    }
    assert names - operators == functions.ALL - functions.GRAMMAR


def test_every_function_is_in_exactly_one_list() -> None:
    lists = [
        functions.AGGREGATES,
        functions.WINDOWS,
        functions.GENERATORS,
        functions.NONDETERMINISTIC,
        functions.SCALARS,
        functions.GRAMMAR,
    ]
    assert sum(map(len, lists)) == len(functions.ALL)
