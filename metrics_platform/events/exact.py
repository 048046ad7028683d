"""Reads a record exactly: each field's value as the sender wrote it, or null if it does not fit the type.

For this, each number, true and false of the JSON text is put in quotes, so that from_json hands it on digit
by digit. A mark after the quote tells it from a text.
"""

from __future__ import annotations

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events import times
from metrics_platform.events.plain import BAD, OPTIONS
from metrics_platform.events.sql import TEXT, let, literal, quoted

# A character that Unicode keeps out of texts. From a text that holds it nonetheless it is removed.
_MARK = "\uffff"
_BYTE_ORDER_MARK = "\ufeff"
# Numbers and literals outside of strings, each with what stands before it. Possessive throughout, so that the
# time grows with the length of the text alone.
_BEFORE = r'(?:[^"0-9tf-]++|"(?:[^"\\]++|\\.)*+")*+'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_TOKEN = rf"\G({_BEFORE})({_NUMBER}|true|false)(?=\s*+[,\]}}])"

# The object and a 7 behind it: another text than one object makes something else of the 7.
_ONE_OBJECT = "get_json_object(concat('[', {json}, ',7]'), '$[1]') <=> '7'"
_BEGINS = rf"^{_BYTE_ORDER_MARK}?\s*[{{]"

# A number in a text. Longer ones mean nothing, and take long to compute with.
_DIGITS = "[0-9]{1,1000}"
_EXPONENT = "[eE][+-]?0*[0-9]{1,4}"
NUMERIC = rf"^[+-]?(?:{_DIGITS}(?:\.[0-9]{{0,1000}})?|\.{_DIGITS})(?:{_EXPONENT})?\z"
# A number that has no decimals beyond those of _WIDE, except for zeros.
_FEW_DECIMALS = (
    rf"^[+-]?{_DIGITS}(?:(?:\.[0-9]{{0,19}}0*)?(?:[eE][+]?0*[0-9]{{1,4}})?"
    r"|(?:\.[0-9]{0,10}0*)?[eE]-0*[0-9])\z"
)
_WIDE = "decimal(38,19)"


def read(kind: EventKind) -> str:
    """SQL for a struct of `sent`, the fields' marked texts, and `read`, their values.

    Without an object `sent` is null, or its column BAD is not.
    """
    read = (f"{literal(field.name)}, {_value(field, f'_j.{quoted(field.name)}')}" for field in kind.fields)
    return let("_j", _parsed(kind), f"named_struct('sent', _j, 'read', named_struct({', '.join(read)}))")


def plain_text(marked: str) -> str:
    """SQL for what the sender wrote, without our quotes and marks."""
    return (
        f"if(startswith({marked}, '{_MARK}'), substring({marked}, 2), "
        f"regexp_replace({marked}, '\"{_MARK}([^\"]*)\"', '$1'))"
    )


def is_text(marked: str) -> str:
    """SQL condition: the value is a JSON string, as far as that can be told: it may begin like a list."""
    return f"not ({marked} rlike '^[{_MARK}{{\\\\[]')"


def _parsed(kind: EventKind) -> str:
    columns = [f"{quoted(field.name)} string" for field in kind.fields]
    schema = literal(", ".join([*columns, f"{BAD} string"]))
    options = ", ".join(f"'{name}', '{value}'" for name, value in OPTIONS.items())
    text = f"replace(ltrim('{_BYTE_ORDER_MARK}', {TEXT}), '{_MARK}', '')"
    json = f"regexp_replace({text}, {literal(_TOKEN)}, '$1\"{_MARK}$2\"')"
    is_object = f"{TEXT} rlike {literal(_BEGINS)} and {_ONE_OBJECT.format(json=json)}"
    return f"from_json(if({is_object}, {json}, null), {schema}, map({options}))"


def _value(field: Field, marked: str) -> str:
    if field.type == "string":
        return plain_text(marked)
    if field.type == "boolean":
        return f"case {marked} when '{_MARK}true' then true when '{_MARK}false' then false end"
    if field.type in times.ISO_PATTERNS:
        return times.iso_in_any_form(field.type, marked)
    return _number(field, f"replace({marked}, '{_MARK}', '')")


def _number(field: Field, text: str) -> str:
    """SQL for the value of a number in a text, or null if it is outside of the type's range."""
    number = f"if({text} rlike {literal(NUMERIC)}, {text}, null)"
    match field.type:
        case "int" | "bigint":
            return _whole(field.type, text)
        case "double":
            return let("_x", f"try_cast({number} as double)", "if(abs(_x) < double('infinity'), _x, null)")
        case "epoch_seconds":
            return let("_x", f"try_cast({number} as decimal(20,6))", times.epoch(field.type, "_x"))
        case _ if field.is_epoch:
            return let("_x", _whole("bigint", text), times.epoch(field.type, "_x"))
        case _:
            return f"try_cast({number} as {field.type})"


def _whole(spark_type: str, text: str) -> str:
    """SQL for a whole number in a text; null if it has a fraction."""
    whole, wide = (f"try_cast({text} as {type_})" for type_ in ("decimal(38,0)", _WIDE))
    tests = f"{text} rlike {literal(_FEW_DECIMALS)} and try_cast({whole} as {_WIDE}) = {wide}"
    return f"if({tests}, try_cast({whole} as {spark_type}), null)"
