"""Why a record is rejected: a reason to group by, and a detail for the person who looks at one record.

There are few reasons, whatever senders send: no reason holds anything from a record. The detail names the
field, the value, what is accepted instead, and what the sender probably meant.

In the SQL `_e` stands for what was read of the record (see exact.read), and `_r` for the reason.
"""

from __future__ import annotations

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events import exact, times
from metrics_platform.events.plain import BAD
from metrics_platform.events.sql import TEXT, instant, let, literal, quoted

EMPTY = "empty record"
FRAME = "schema registry frame"
NO_OBJECT = "no JSON object"
MISSING = "missing field"
WRONG_TYPE = "wrong type in field"
FUTURE = "event time in the future"
TOO_EARLY = "event time before the catalogue's start"

_VALUE_SHOWN = 40  # so many characters of a value stand in the detail
# The serializer of a schema registry writes a zero and four bytes before the value.
_FRAMED = r"(?s)^\x00[^{].{3}"

# What a text that is no JSON object probably is: a pattern, and what to tell.
_NOT_JSON = (
    (r"^[\x00\uFFFD\uFEFF].?[{]\x00|^[{]\x00|^\x00[{]", "looks like UTF-16; send UTF-8"),
    (r"^\x1F\uFFFD", "looks compressed; let Kafka compress, not the sender"),
    (r"^\s*\[", "looks like a list; send each event in a record of its own"),
    (r'^\s*"', "looks like JSON inside of a JSON text; encode it once"),
    (r"^\s*[{]\s*'", "looks like single quotes; JSON has double quotes"),
    (r"(?s)^\s*[{].*[}][\s,]*[{]", "looks like two objects; send each in a record of its own"),
    (r"(?s)^\s*[{].*[^}\s]\s*\z", "looks cut off, or followed by other text"),
)
# What a text that is no number probably is.
_NOT_A_NUMBER = (
    (r"[0-9][, _'\u00A0\u202F]+[0-9]", "looks like a number written for people; use digits and one point"),
    (r"[\p{Nd}&&[^0-9]]", "looks like digits of another script; use 0 to 9"),
    (r"^[+-]?0[xX]", "looks hexadecimal; use decimal digits"),
    (r"^\s|\s\z", "remove the space around the number"),
    (r"^[+-]?[0-9.]+[eE][+-]?[0-9]+\z", "beyond any number of use"),
    (r"^[+-]?[0-9.]+\s*[^0-9.\s]", "looks like a number with other text; send the number alone"),
)
_ACCEPTED = {
    "string": "any value",
    "int": "a whole number from -2147483648 to 2147483647",
    "bigint": "a whole number of 64 bits",
    "double": "a number such as 1234.5",
    "boolean": "true or false without quotes",
    "date": '"2026-01-31"',
    "timestamp": '"2026-01-31T12:00:00Z"',
}
_TOO_LARGE = {
    "int": "too large; use bigint",
    "bigint": "too large; use decimal(38,0)",
    "double": "too large for any double",
}


def judge(kind: EventKind, accepted: times.EventTimes, latest: str) -> str:
    """SQL for a struct of the values `read`, and `reason` (null for an event), `detail` and `impaired`.

    `latest` is SQL for the last event time that is not in the future.
    """
    detail, impaired = _detail(kind, accepted, latest), _impaired(kind)
    judged = f"named_struct('read', _e.read, 'reason', _r, 'detail', {detail}, 'impaired', {impaired})"
    return let("_e", exact.read(kind), let("_r", _reason(kind, accepted, latest), judged))


def _reason(kind: EventKind, accepted: times.EventTimes, latest: str) -> str:
    time, identity = f"_e.read.{quoted(kind.time_field)}", f"_e.sent.{quoted(kind.id_field)}"
    absent = [(f"_e.sent.{quoted(f.name)} is null", f.name) for f in kind.fields if f.required]
    checks = (
        (f"coalesce({TEXT}, '') = ''", EMPTY),
        (f"{TEXT} rlike {literal(_FRAMED)}", FRAME),
        (f"_e.sent is null or _e.sent.{BAD} is not null", NO_OBJECT),
        *((test, f"{MISSING} {name}") for test, name in [*absent, (f"{identity} = ''", kind.id_field)]),
        *((_misfits(field), f"{WRONG_TYPE} {field.name}") for field in kind.fields if not field.null_if_bad),
        (f"{time} > {latest}", FUTURE),
        (f"{time} < {instant(accepted.first)}", TOO_EARLY),
    )
    return f"case {' '.join(f'when {test} then {literal(reason)}' for test, reason in checks)} end"


def _misfits(field: Field) -> str:
    """SQL condition: the field was sent, and does not fit its type."""
    return f"_e.sent.{quoted(field.name)} is not null and _e.read.{quoted(field.name)} is null"


def _impaired(kind: EventKind) -> str:
    """SQL for the names of an event's impaired fields, separated by commas; null if there are none."""
    spared = [field for field in kind.fields if field.null_if_bad]
    names = ", ".join(f"if({_misfits(field)}, {literal(field.name)}, null)" for field in spared)
    return f"if(_r is null, nullif(concat_ws(',', {names}), ''), null)" if spared else "string(null)"


def _detail(kind: EventKind, accepted: times.EventTimes, latest: str) -> str:
    """SQL for the detail; null for an event without impaired fields."""
    sent, time = (f"_e.{part}.{quoted(kind.time_field)}" for part in ("sent", "read"))
    told = f"concat({literal(kind.time_field + ' is ')}, {_shown(sent)}, ', ', {time}"
    unset = f"if({time} = {instant(times.UNSET)}, '; looks like a time that was not set', '')"
    cases = {
        EMPTY: literal("the record has no value, as one that marks a key as deleted"),
        FRAME: literal(
            "begins with a zero byte and a schema's number; use a serializer without schema registry"
        ),
        NO_OBJECT: f"concat('begins with ', {_cut(TEXT)}, {_guess(TEXT, _NOT_JSON)})",
        FUTURE: f"{told}, '; accepted until ', {latest}, '; looks like a clock or time zone that is ahead')",
        TOO_EARLY: f"{told}, '; accepted from ', {instant(accepted.first)}, {unset})",
    }
    known = " ".join(f"when {literal(reason)} then {sql}" for reason, sql in cases.items())
    absent = let("_a", f"substring(_r, {len(MISSING) + 2})", _absent_detail())
    return f"case _r {known} else if(startswith(_r, '{MISSING}'), {absent}, {_misfit_detail(kind)}) end"


def _misfit_detail(kind: EventKind) -> str:
    """SQL for the detail of the first field that does not fit, before those that are spared."""
    fields = sorted(kind.fields, key=lambda field: field.null_if_bad)
    cases = " ".join(f"when {_misfits(field)} then {_misfit(field)}" for field in fields)
    told = f"concat(_f.name, ' is ', {_shown('_f.sent')}, '; accepted is ', _f.accepted, {_misfit_hint()})"
    return let("_f", f"case {cases} end", told)


def _misfit(field: Field) -> str:
    return (
        f"named_struct('name', {literal(field.name)}, 'type', {literal(field.type)}, "
        f"'accepted', {literal(_accepted(field))}, 'sent', _e.sent.{quoted(field.name)})"
    )


def _absent_detail() -> str:
    name = "concat('\"', _a, '\"')"
    other_case = f"if(contains(lower({TEXT}), lower({name})), '; looks like another case of its letters', '')"
    absent = f"if(contains({TEXT}, {name}), 'null or empty', concat('absent', {other_case}))"
    return f"concat(_a, ' is ', {absent})"


def _misfit_hint() -> str:
    """SQL for what the sender of the misfit `_f` probably meant, with a semicolon before it."""
    is_time = "_f.type in ('date', 'timestamp') or startswith(_f.type, 'epoch_')"
    hint = (
        f"case when {is_time} then {_time_hint()} when _f.type = 'boolean' then '' else {_number_hint()} end"
    )
    number = f"if(_w rlike {literal(exact.NUMERIC)}, try_cast(_w as double), null)"
    return let("_w", exact.plain_text("_f.sent"), let("_x", number, hint))


def _time_hint() -> str:
    unit = "concat('; looks like ', substring(_u, 7), '; use ', _u)"
    is_text = "startswith(_f.type, 'epoch_') and _w rlike '^[0-9]{4}-'"
    text = f"if({is_text}, '; looks like ISO 8601; use timestamp', '')"
    return let("_u", times.likely_unit("_x"), f"coalesce({unit}, {text})")


def _number_hint() -> str:
    largest = "case _f.type when 'int' then 2147483647 when 'bigint' then 9223372036854775807 else 0 end"
    too_large = " ".join(f"when {literal(type_)} then {literal(told)}" for type_, told in _TOO_LARGE.items())
    return (
        f"case when _x is null then {_guess('_w', _NOT_A_NUMBER)} "
        f"when abs(_x) < {largest} then '; looks like a number with a fraction; use decimal or double' "
        f"else concat('; ', case _f.type {too_large} else 'too large; use a decimal of more digits' end) end"
    )


def _guess(text: str, patterns: tuple[tuple[str, str], ...]) -> str:
    tests = " ".join(f"when {text} rlike {literal(p)} then {literal('; ' + told)}" for p, told in patterns)
    return f"case {tests} else '' end"


def _shown(marked: str) -> str:
    """SQL for a value as the sender wrote it, texts in quotes, cut."""
    plain = exact.plain_text(marked)
    return _cut(f"if({exact.is_text(marked)}, concat('\"', {plain}, '\"'), {plain})")


def _cut(text: str) -> str:
    cut = f"if(length(_l) > {_VALUE_SHOWN}, concat(left(_l, {_VALUE_SHOWN - 1}), '…'), _l)"
    return let("_l", text, f"regexp_replace({cut}, '\\\\p{{Cntrl}}', ' ')")


def _accepted(field: Field) -> str:
    """What a field of this type accepts, in words."""
    if field.is_epoch:
        return f"{field.type.removeprefix('epoch_')} since 1970"
    return _ACCEPTED.get(field.type, f"a number such as 1234.5 that fits {field.type}")
