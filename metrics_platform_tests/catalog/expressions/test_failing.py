"""Calls that fail by a value are known, and those that cannot are not suspected."""

import pytest

from metrics_platform.catalog.expressions import functions
from metrics_platform.catalog.expressions.failing import FAILING, FAILING_BY_ARGUMENT, failing_calls


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("url_decode(page)", ["url_decode"]),
        ("upper(url_decode(page)) = 'A' and unbase64(page) is null", ["unbase64", "url_decode"]),
        ("try_url_decode(page)", []),
        ("element_at(split(page, '/'), 1)", []),
        ("element_at(split(page, '/'), -1)", []),
        ("element_at(split(page, '/'), n)", ["element_at"]),
        ("split_part(page, '/', 2)", []),
        ("regexp_replace(page, 'a', other)", ["regexp_replace"]),
        ("page = 'url_decode(x)'", []),
    ],
)
def test_failing_calls(sql: str, found: list[str]) -> None:
    assert sorted(failing_calls(sql)) == found


def test_only_functions_that_an_expression_may_call_are_listed() -> None:
    assert {*FAILING, *FAILING_BY_ARGUMENT} <= functions.SCALARS
    better = [text.partition("(")[0] for text in (FAILING | FAILING_BY_ARGUMENT).values() if text]
    assert set(better) <= functions.SCALARS
