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
from metrics_platform.events.sql import TEXT, literal, quoted

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
_IN_BRACES = f"(startswith({TEXT}, '{{') and endswith({TEXT}, '}}'))"
_IN_BRACES_AND_SPACE = r"(?s)^[ \t\r\n]*+[{].*[}][ \t\r\n]*\z"
# Second: a text with only one closing brace, at its end, is one object. With several, other text may follow
# the object. To test this, the text is made the first element of an array and the number 7 the second one: if
# the second element is not 7, the text is more than one object. (Spark's split is the fastest way to find a
# second brace.)
_SEVERAL_BRACES = f"size(split({TEXT}, '}}', 3)) > 2"
_ONE_OBJECT = f"get_json_object(concat('[', {TEXT}, ',7]'), '$[1]') <=> '7'"

# A decimal is usual without an exponent and, in quotes, with nothing but digits and a point.
_USUAL = r"-?[0-9]{1,38}(?:\.[0-9]{1,38})?+"
_USUAL_DECIMAL = rf'{_USUAL}\s*+[,}}]|"{_USUAL}"|null'
# A name in the JSON text may be written with escapes.
_ESCAPED = f"contains({TEXT}, '\\\\u00')"
# A number that from_json does not copy into a text digit by digit: as it is in JSON, and what it may become.
_CHANGED = "(?:-?[0-9]+[.eE]|-0)"
_COPIED = r"^-?[0-9]+[.][0-9]+(?:E-?[0-9]+)?\z"
_COPIED_INSIDE = r'[:,\[](?:-?[0-9]+[.E]|0[,\]}]|"-?Inf)'


def parse(records: DataFrame, kind: EventKind) -> DataFrame:
    """The records with `_json`, the struct of their fields; null for a record that must be read exactly."""
    from pyspark.sql import functions as F

    unusual = _unusual_decimal(kind.fields)
    text = F.expr(f"if({unusual}, null, {TEXT})" if unusual else TEXT)
    return records.withColumn("_json", F.from_json(text, _schema(kind.fields), OPTIONS))


def value(field: Field) -> str:
    """SQL for the field's value, from the result of `parse`; null where the JSON does not fit the type."""
    sent = f"_json.{quoted(field.name)}"
    if field.is_epoch:
        return times.epoch(field.type, sent)
    return times.iso(field.type, sent) if field.type in times.ISO_PATTERNS else sent


def is_plain(kind: EventKind) -> str:
    """SQL condition on the result of `parse`: the record is an object, and all its fields fit."""
    required = (f"_json.{quoted(field.name)} is not null" for field in kind.fields if field.required)
    tests = [
        f"_json is not null and _json.{BAD} is null",
        f"{_IN_BRACES} or {TEXT} rlike {literal(_IN_BRACES_AND_SPACE)}",
        f"not ({_SEVERAL_BRACES}) or {_ONE_OBJECT}",
        *required,
        f"string(_json.{quoted(kind.id_field)}) <> ''",
        *(test for field in kind.fields for test in _fits(field)),
        *_texts_kept(kind.fields),
    ]
    return " and ".join(f"({test})" for test in tests)


def _schema(fields: Sequence[Field]) -> str:
    columns = [f"{quoted(field.name)} {_json_type(field)}" for field in fields]
    return f"{', '.join(columns)}, {BAD} string"


def _fits(field: Field) -> list[str]:
    """SQL conditions for values that from_json accepts to fit the field's type."""
    sent = f"_json.{quoted(field.name)}"
    if field.type in _JSON_TYPES:
        return [f"{value(field)} is not null or {sent} is null"]
    return [f"coalesce(abs({sent}) < double('infinity'), true)"] if field.type == "double" else []


def _unusual_decimal(fields: Sequence[Field]) -> str | None:
    """SQL condition: the text may hold a decimal that from_json reads wrong, or for minutes."""
    decimals = [field.name for field in fields if _json_type(field).startswith("decimal")]
    # One pattern for each field: Java finds one that begins with fixed text several times faster.
    patterns = (rf'"{name}"\s*+:\s*+(?!{_USUAL_DECIMAL})' for name in decimals)
    tests = [_ESCAPED, *(f"{TEXT} rlike {literal(pattern)}" for pattern in patterns)]
    return " or ".join(tests) if decimals else None


def _texts_kept(fields: Sequence[Field]) -> list[str]:
    """SQL conditions: no field of text was a number, or held one, whose digits from_json changed.

    The values tell cheaply that it may be so. The sender's text is looked at only then.
    """
    names = [field.name for field in fields if field.type == "string"]
    inside = rf"[\[{{](?=(?s:.*?[:,\[]\s*{_CHANGED}))"
    pattern = rf'"(?:{"|".join(names)})"\s*+:\s*+(?:{_CHANGED}|{inside})'
    sent_so = f"({_ESCAPED} or {TEXT} rlike {literal(pattern)})"
    changed = [_may_be_changed(f"_json.{quoted(name)}") for name in names]
    return [f"not (({' or '.join(changed)}) and {sent_so})"] if names else []


def _may_be_changed(text: str) -> str:
    number = f"contains({text}, '.') and {text} rlike {literal(_COPIED)}"
    scalar = f"{text} < ':' and ({number} or {text} = '0' or startswith({text}, '\"'))"
    nested = (
        f"(startswith({text}, '[') or startswith({text}, '{{')) and {text} rlike {literal(_COPIED_INSIDE)}"
    )
    return f"{scalar} or {nested}"


def _json_type(field: Field) -> str:
    return _JSON_TYPES.get(field.type, field.type)
