"""Arithmetic on whole numbers is widened, and everything else stays as it was written."""

import pytest

from metrics_platform.catalog.expressions.arithmetic import widen

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


@pytest.mark.parametrize(
    ("written", "widened"),
    [
        ("n * n", "TRY_MULTIPLY(CAST(n AS BIGINT), n)"),
        ("big - n", "TRY_SUBTRACT(big, n)"),
        ("-n", "TRY_SUBTRACT(CAST(0 AS BIGINT), n)"),
        ("n div 2", "CAST(n AS BIGINT) DIV 2"),
        ("coalesce(n * 2, 0)", "COALESCE(TRY_MULTIPLY(CAST(n AS BIGINT), 2), 0)"),
        ("cast(big as int)", "TRY_CAST(big AS INT)"),
        ("floor(x)", "IF(ABS(x) < 9223372036854775808, FLOOR(x), NULL)"),
        ("n * 2 > 3 and s like 'a%'", "TRY_MULTIPLY(CAST(n AS BIGINT), 2) > 3 AND s LIKE 'a%'"),
        # A function that wants an int gets one.
        (
            "element_at(split(s, ','), n + 1)",
            "ELEMENT_AT(SPLIT(s, ','), TRY_CAST(TRY_ADD(CAST(n AS BIGINT), 1) AS INT))",
        ),
        # Of unknown types: they may be whole numbers.
        (
            "aggregate(array(n), 0, (y, z) -> y + z)",
            "AGGREGATE(ARRAY(n), 0, (y, z) -> TRY_ADD(y, z))",
        ),
        ("if(s = 'it''s', n * 2, 0)", r"IF(s = 'it\'s', TRY_MULTIPLY(CAST(n AS BIGINT), 2), 0)"),
    ],
)
def test_whole_numbers_do_not_wrap(written: str, widened: str) -> None:
    assert widen(written, FIELDS).sql == widened


@pytest.mark.parametrize(
    "written",
    ["n", "n  %  2", "n/2", "m * m", "x*n", "log10(x) * x", "d + 1", "t + interval 1 day", "s + 1",
     "cast(s as int)", "-1", "array(1, 2)[n]", "upper( s )"],
)  # fmt: skip
def test_what_cannot_wrap_stays_as_it_was_written(written: str) -> None:
    assert widen(written, FIELDS).sql == written


@pytest.mark.parametrize(
    ("written", "doubles"),
    [
        ("n", None),
        ("length(s)", None),
        ("big * big", "(CAST(big AS DOUBLE) * CAST(big AS DOUBLE))"),
        ("if(n * 2 > 3, big + 1, 0)",
         "IF(TRY_MULTIPLY(CAST(n AS BIGINT), 2) > 3, (CAST(big AS DOUBLE) + CAST(1 AS DOUBLE)), 0)"),
    ],
)  # fmt: skip
def test_only_what_becomes_the_result_is_computed_in_doubles(written: str, doubles: str | None) -> None:
    assert widen(written, FIELDS).in_doubles == doubles
