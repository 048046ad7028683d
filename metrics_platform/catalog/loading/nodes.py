"""YAML with line numbers: the text of a file as values that know where they stand.

PyYAML's own loader forgets lines and lets a later key replace an earlier one; its node tree does neither.
Scalars are read as the text that was written, so `on`, `1_000` and `2026-01-01` mean what they look like.
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
    """A value of the file. `label` is the key or name that people know it by, `key_line` its line."""

    node: yaml.Node
    label: str
    key_line: int

    @property
    def line(self) -> int:
        """Where the value is: its own line if it is text, its key's if it holds other values."""
        return _line(self.node) if isinstance(self.node, yaml.ScalarNode) else self.key_line

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands behind the key."""
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
        """A mistake in this value, to be raised."""
        return Mistake(self.line, f"{self.label}: {message}")

    def text(self, example: str) -> str:
        """The text as written, stripped. Raises Mistake, showing the example, if there is none."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.mistake(f"this must be one value; write {example}")
        if self.is_empty or not self.node.value.strip():
            raise self.mistake(f"nothing is written here; write {example}")
        return self.node.value.strip()

    def items(self, example: str) -> list[Value]:
        """The items of a list. Raises Mistake, showing the example, if it is no list or empty."""
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.mistake(f"this must be a list; write {example}")
        return [Value(item, self.label, _line(item)) for item in self.node.value]

    def entries(self, report: Report, example: str) -> dict[str, Value]:
        """The values behind each key; duplicate keys go to the report and the first one counts.

        Raises Mistake, showing the example, if it is no mapping or empty.
        """
        if not isinstance(self.node, yaml.MappingNode) or not self.node.value:
            raise self.mistake(f"this must be `key: value` pairs; write {example}")
        found: dict[str, Value] = {}
        for key, node in self.node.value:
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode):
                report.add(
                    line, f"{self.label}: a key must be one word; quote it if it holds a bracket or brace"
                )
            elif key.value in found:
                first = found[key.value].key_line
                report.add(
                    line, f"'{key.value}' is defined twice, first in line {first}; rename or remove one"
                )
            else:
                found[key.value] = Value(node, key.value, line)
        return found

    def section(
        self, report: Report, known: Mapping[str, str], required: frozenset[str] = frozenset()
    ) -> Section:
        """The values behind a fixed set of keys: `known` maps each to an example of what to write.

        Unknown and missing keys go to the report. Raises Mistake if it is no mapping.
        """
        example = known[min(required)] if required else next(iter(known.values()))
        found = self.entries(report, example)
        for key in found.keys() - known.keys():
            message = f"{self.label}: unknown key '{key}'; {suggestion(key, known)}"
            report.add(found[key].key_line, message)
        for key in sorted(required - found.keys()):
            report.add(self.key_line, f"{self.label}: '{key}' is missing; write {known[key]}")
        return Section(report, found)


@dataclass(frozen=True)
class Section:
    """The values of a mapping with a fixed set of keys."""

    report: Report
    values: Mapping[str, Value]

    def read(self, key: str, read: Callable[[Value], T]) -> T | None:
        """What `read` makes of the key's value; None if it is absent or a mistake (then it is reported)."""
        return self.report.attempt(read, self.values[key]) if key in self.values else None


def read_yaml(path: Path) -> Value:
    """The root of a YAML file. Raises Mistake if the file cannot be read or is no YAML."""
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
