"""Which functions fail by a value that they cannot handle, where others give null.

A single such event leaves the whole metric out of its window, so `check` warns of them. The lists were tried
on Spark 4.2 with the settings of both layers.
"""

from __future__ import annotations

from sqlglot import exp

from metrics_platform.catalog.expressions.verbatim import read_verbatim


def _without_another(names: str) -> dict[str, str | None]:
    return dict.fromkeys(names.split())


# Functions that fail -> what gives null instead; None if there is no such function.
FAILING: dict[str, str | None] = {
    "aes_decrypt": "try_aes_decrypt(...)",
    "parse_json": "try_parse_json(...)",
    "to_binary": "try_to_binary(...)",
    "to_number": "try_to_number(...)",
    "unbase64": "try_to_binary(..., 'base64')",
    "url_decode": "try_url_decode(...)",
    "validate_utf8": "try_validate_utf8(...)",
    "variant_get": "try_variant_get(...)",
    **_without_another(
        """
        assert_true format_string hll_sketch_estimate map_concat map_from_arrays map_from_entries printf
        raise_error str_to_map timestamp_millis timestamp_seconds transform_keys xpath xpath_boolean
        xpath_double xpath_float xpath_int xpath_long xpath_number xpath_short xpath_string
        """
    ),
}
# Functions that fail by an index, a pattern or a zone that they cannot use: by none that is written out.
FAILING_BY_ARGUMENT: dict[str, str | None] = {
    "element_at": "element_at(..., nullif(INDEX, 0))",
    **_without_another(
        """
        array_insert decode encode from_utc_timestamp getbit regexp_count regexp_extract regexp_extract_all
        regexp_instr regexp_like regexp_replace regexp_substr slice split split_part to_utc_timestamp
        """
    ),
}


def failing_calls(sql: str) -> dict[str, str | None]:
    """The calls of a checked expression that fail by a value, each with what to write instead if there is."""
    tree = read_verbatim(sql)
    if tree is None:
        return {}
    found: dict[str, str | None] = {}
    for call in tree.find_all(exp.Func):
        name = (call.name if isinstance(call, exp.Anonymous) else call.sql_name()).lower()
        _, *further = [*call.iter_expressions(), None]
        varies = any(argument is not None and argument.find(exp.Column) for argument in further)
        if name in FAILING:
            found[name] = FAILING[name]
        elif name in FAILING_BY_ARGUMENT and varies:
            found[name] = FAILING_BY_ARGUMENT[name]
    return found
