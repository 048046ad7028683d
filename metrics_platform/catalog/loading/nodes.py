"""Reads YAML into values that know their line in the file.

PyYAML's own loader drops the line numbers and lets a later key replace an earlier one, so its node tree is
used instead. Scalars are read as the text that was written: `on`, `1_000` and `2026-01-01` are not converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from metrics_platform.catalog.loading.problems import Mistake, Report, suggestion

T = TypeVar("T")

_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Value:
    """A value of the file."""

    node: yaml.Node
    label: str  # the key or name by which error messages call the value
    key_line: int  # the line of the key, from 1

    @property
    def line(self) -> int:
        """The line for error messages: the value's own line if it is text, its key's line otherwise."""
        return _line(self.node) if isinstance(self.node, yaml.ScalarNode) else self.key_line

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written after the key."""
        return self.node.tag == _NULL

    @property
    def is_mapping(self) -> bool:
        """Whether the value is `key: value` pairs."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def mistake(self, message: str) -> Mistake:
        """The exception for a mistake in this value. The caller raises it."""
        return Mistake(self.line, f"{self.label}: {message}")

    def text(self, example: str) -> str:
        """The text as written, stripped. Raises Mistake, which shows the example, if there is no text."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.mistake(f"this must be one value; write {example}")
        if self.is_empty or not self.node.value.strip():
            raise self.mistake(f"nothing is written here; write {example}")
        return self.node.value.strip()

    def items(self, example: str) -> list[Value]:
        """The items of a list. Raises Mistake, which shows the example, if this is no list or it is empty."""
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.mistake(f"this must be a list; write {example}")
        return [Value(item, self.label, _line(item)) for item in self.node.value]

    def entries(self, report: Report, example: str) -> dict[str, Value]:
        """The values of a mapping by key. Of duplicate keys the first one counts; the others are reported.

        Raises Mistake, which shows the example, if this is no mapping or it is empty.
        """
        if not isinstance(self.node, yaml.MappingNode) or not self.node.value:
            raise self.mistake(f"this must be `key: value` pairs; write {example}")
        values: dict[str, Value] = {}
        for key, node in self.node.value:
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode):
                report.add(
                    line, f"{self.label}: a key must be one word; quote it if it holds a bracket or brace"
                )
            elif key.value in values:
                first = values[key.value].key_line
                report.add(
                    line, f"'{key.value}' is defined twice, first in line {first}; rename or remove one"
                )
            else:
                values[key.value] = Value(node, key.value, line)
        return values

    def section(
        self, report: Report, known: Mapping[str, str], required: frozenset[str] = frozenset()
    ) -> Section:
        """The values of a mapping with a fixed set of keys.

        `known` maps each key to an example of what to write. Unknown and missing keys go to the report.
        Raises Mistake if this is no mapping.
        """
        example = known[min(required)] if required else next(iter(known.values()))
        values = self.entries(report, example)
        for key in values.keys() - known.keys():
            message = f"{self.label}: unknown key '{key}'; {suggestion(key, known)}"
            report.add(values[key].key_line, message)
        for key in sorted(required - values.keys()):
            report.add(self.key_line, f"{self.label}: '{key}' is missing; write {known[key]}")
        return Section(report, values)


@dataclass(frozen=True)
class Section:
    """The values of a mapping with a fixed set of keys."""

    report: Report  # where mistakes in the values go
    values: Mapping[str, Value]

    def read(self, key: str, read: Callable[[Value], T]) -> T | None:
        """The result of `read` for the key's value.

        Returns None if the key is absent, or if `read` raised Mistake, which goes to the report.
        """
        return self.report.attempt(read, self.values[key]) if key in self.values else None


def read_yaml(path: Path) -> Value:
    """The root of a YAML file. Raises Mistake if the file is empty, cannot be read or is no YAML."""
    root = _compose(_text(path))
    if root is None:
        raise Mistake(1, "the file is empty; start from the example, metrics_platform/catalog/webshop.yaml")
    return Value(root, "catalogue", _line(root))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise Mistake(
            1, "there is no such file; name an existing one with METRICS_PLATFORM_CATALOG"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Mistake(line, "this is no UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise Mistake(1, f"the file cannot be read ({error.strerror}); check path and permissions") from None


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "cannot be parsed"
        message = f"bad YAML: {reason}; check indentation (spaces only), quotes and brackets"
        raise Mistake(mark.line + 1 if mark else 1, message) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise Mistake(line, f"bad YAML: character {error.character!r} is not allowed; remove it") from None


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
