"""The project's documents, taken apart: their blocks, commands, links and spans of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metrics_platform.settings import PACKAGE

ROOT = PACKAGE.parent
DOCUMENTS = tuple(
    sorted(
        [
            *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docker/README.md")),
            *(ROOT / "docs").rglob("*.md"),
        ]
    )
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#\s.*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line, counted from 1."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.document)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a shell block, without its comment, on one line."""

    block: Block
    text: str

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def name(document: Path) -> str:
    """The document's path from the root."""
    return str(document.relative_to(ROOT))


def blocks(document: Path, *languages: str) -> list[Block]:
    """The document's fenced blocks, of these languages if any are given."""
    text = document.read_text()
    found = [
        Block(document, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[Command]:
    """The commands of a shell block."""
    lines = _COMMENT.sub("", block.text.replace("\\\n", " ")).splitlines()
    return [Command(block, " ".join(line.split())) for line in lines if line.strip()]


def all_commands() -> Iterator[Command]:
    """Every command of every document."""
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            yield from commands(block)


def prose(document: Path) -> str:
    """The document without its fenced blocks, each line in its place."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), document.read_text())


def spans(document: Path) -> list[str]:
    """The spans of code in the document's prose; a span may go on in the next line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def links(document: Path) -> list[str]:
    """The targets of the document's links and pictures."""
    without_code = re.sub(r"`[^`]*`", "", prose(document))
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


def anchors(document: Path) -> set[str]:
    """The anchors of the document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
