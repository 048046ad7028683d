"""Plain records: those that Spark's from_json reads as `exact` would, and much faster. Nearly all are plain.

from_json is told the fields' types. It reads some texts otherwise than they are meant: it takes "12,50" for
1250, it drops digits of a number in a text field, and a decimal of 1e100000000 keeps it busy for minutes. So
a text with such a decimal is not given to it. What else is unusual shows in its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events import times
from metrics_platform.events.sql import literal, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BAD = "_bad"
OPTIONS = {
    "columnNameOfCorruptRecord": BAD,
    "allowNonNumericNumbers": "false",
    "allowSingleQuotes": "false",
}
# The types for from_json where they differ from the field's own type. Seconds may have a fraction.
_JSON_TYPES = {
    "epoch_seconds": "decimal(20,6)",
    "epoch_millis": "bigint",
    "epoch_micros": "bigint",
    "epoch_nanos": "bigint",
    "date": "string",
    "timestamp": "string",
}

# from_json also accepts an array of one object, and an object that is followed by other text. These
# conditions find such records. First: the text begins and ends with a brace.
_IN_BRACES = "(startswith(_text, '{') and endswith(_text, '}'))"
# The same with space around it: one expression, for Spark computes one that stands twice for every record.
_IN_BRACES_AND_SPACE = r"(?s)^[ \t\r\n]*+[{].*[}][ \t\r\n]*\z"
# Second: a text with only one closing brace, at its end, is one object. With several, other text may follow
# the object. To test this, the text is made the first element of an array and the number 7 the second one: if
# the second element is not 7, the text is more than one object. (Spark's split is the fastest way to find a
# second brace.)
_SEVERAL_BRACES = "size(split(_text, '}', 3)) > 2"
_ONE_OBJECT = "get_json_object(concat('[', _text, ',7]'), '$[1]') <=> '7'"

# A decimal is usual without an exponent and, in quotes, with nothing but digits and a point.
_USUAL = r"-?[0-9]{1,38}(?:\.[0-9]{1,38})?+"
_USUAL_DECIMAL = rf'{_USUAL}\s*+[,}}]|"{_USUAL}"|null'
# A name in the JSON text may be written with escapes.
_ESCAPED = "contains(_text, '\\\\u00')"
# A number that from_json does not copy into a text digit by digit: as it is in JSON, and what it may become.
_CHANGED = "(?:-?[0-9]+[.eE]|-0)"
_COPIED = r'^(?:-?[0-9]+[.E]|0\z|")'
_COPIED_INSIDE = r'[:,\[](?:-?[0-9]+[.E]|0[,\]}]|"-?Inf)'


def parse(texts: DataFrame, kind: EventKind) -> DataFrame:
    """The rows with `_json` and one column per field, from the column `_text`.

    `_json` is null for a text that is no JSON or must be read exactly; `is_plain` tells what else must hold.
    """
    from pyspark.sql import functions as F

    unusual = _unusual_decimal(kind.fields)
    text = F.expr(f"if({unusual}, null, _text)") if unusual else F.col("_text")
    parsed = texts.withColumn("_json", F.from_json(text, _schema(kind.fields), OPTIONS))
    return parsed.select("*", *(F.expr(_value(field)).alias(field.name) for field in kind.fields))


def is_plain(kind: EventKind) -> str:
    """SQL condition on the result of `parse`: the record is an object, and all its fields fit."""
    required = (f"_json.{quoted(field.name)} is not null" for field in kind.fields if field.required)
    tests = [
        f"_json is not null and _json.{BAD} is null",
        f"{_IN_BRACES} or _text rlike {literal(_IN_BRACES_AND_SPACE)}",
        f"not ({_SEVERAL_BRACES}) or {_ONE_OBJECT}",
        *required,
        f"string({quoted(kind.id_field)}) <> ''",
        *(test for field in kind.fields for test in _fits(field)),
        *_texts_kept(kind.fields),
    ]
    return " and ".join(f"({test})" for test in tests)


def _schema(fields: Sequence[Field]) -> str:
    columns = [f"{quoted(field.name)} {_json_type(field)}" for field in fields]
    return f"{', '.join(columns)}, {BAD} string"


def _value(field: Field) -> str:
    """SQL for the field's column. It is null where the JSON value does not fit the type."""
    value = f"_json.{quoted(field.name)}"
    if field.is_epoch:
        return times.epoch(field.type, value)
    return times.iso(field.type, value) if field.type in times.ISO_PATTERNS else value


def _fits(field: Field) -> list[str]:
    """SQL conditions for values that from_json accepts to fit the field's type."""
    name = quoted(field.name)
    if field.type in _JSON_TYPES:
        return [f"{name} is not null or _json.{name} is null"]
    return [f"coalesce(abs({name}) < double('infinity'), true)"] if field.type == "double" else []


def _unusual_decimal(fields: Sequence[Field]) -> str | None:
    """SQL condition: the text may hold a decimal that from_json reads wrong, or for minutes."""
    decimals = [field.name for field in fields if _json_type(field).startswith("decimal")]
    # One pattern for each field: Java finds one that begins with fixed text several times faster.
    patterns = (rf'"{name}"\s*+:\s*+(?!{_USUAL_DECIMAL})' for name in decimals)
    tests = [_ESCAPED, *(f"_text rlike {literal(pattern)}" for pattern in patterns)]
    return " or ".join(tests) if decimals else None


def _texts_kept(fields: Sequence[Field]) -> list[str]:
    """SQL conditions: no field of text was a number, or held one, whose digits from_json changed.

    The values tell cheaply that it may be so. The sender's text is looked at only then.
    """
    names = [field.name for field in fields if field.type == "string"]
    inside = rf"[\[{{](?=(?s:.*?[:,\[]\s*{_CHANGED}))"
    pattern = rf'"(?:{"|".join(names)})"\s*+:\s*+(?:{_CHANGED}|{inside})'
    in_text = f"({_ESCAPED} or _text rlike {literal(pattern)})"
    changed = [
        f"({name} < ':' and {name} rlike {literal(_COPIED)}) or "
        f"((startswith({name}, '[') or startswith({name}, '{{')) and {name} rlike {literal(_COPIED_INSIDE)})"
        for name in map(quoted, names)
    ]
    return [f"not (({' or '.join(changed)}) and {in_text})"] if names else []


def _json_type(field: Field) -> str:
    return _JSON_TYPES.get(field.type, field.type)
