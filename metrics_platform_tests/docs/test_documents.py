"""What the documents promise about themselves and the repository, without a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics_platform.settings import PACKAGE
from metrics_platform_tests.docs.documents import DOCUMENTS, ROOT, anchors, blocks, links, name, prose, spans

LANGUAGES = {"", "sh", "sql", "yaml"}
GLOSSARY = """
    event, kind, metric, grain, window, stream layer, batch layer, shift, lease, gap, outage, raw store,
    metric store, ledger, label, coverage, backlog, revision, correction, error band, rejected event,
    ingestion step, restating, alarm, rule, watch, materialisation, partition
"""
# Files that a reader or the platform makes.
MADE = {
    *("mine.yaml", "changed.yaml", "platform.yaml", "docker/.env", "build/bench.json", ".jars/spark"),
}
# What migrations do to tables and views, in their order: made, gone, renamed from and to.
_CHANGES = re.compile(
    r"CREATE (?:TABLE |VIEW )(?:platform\.)?(\w+)|(?:DROP TABLE |DROP VIEW )platform\.(\w+);"
    r"|ALTER (?:TABLE |VIEW )platform\.(\w+) RENAME TO (\w+)"
)
_FOLDERS = ("metrics_platform", "metrics_platform_tests", "docker", "docs", ".readme", ".ci", ".jars")
_SUFFIXES = (".py", ".md", ".yaml", ".toml", ".xml", ".lock", ".sh", ".json")


def _is_path(span: str) -> bool:
    if not re.fullmatch(r"[\w.][\w./-]*", span):
        return False
    return ("/" in span and span.partition("/")[0] in _FOLDERS) or span.endswith(_SUFFIXES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert target.exists(), f"{link} does not exist"
        assert not anchor or anchor in anchors(target), f"{link} names no heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_paths_exist(document: Path) -> None:
    missing = [span for span in spans(document) if _is_path(span) and span not in MADE]
    assert [span for span in missing if not (ROOT / span).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_name_said_to_be_in_a_file_is_in_it(document: Path) -> None:
    for identifier, path in re.findall(r"`([\w.]+)` in\s+`([\w/.]+\.\w+)`", prose(document)):
        assert re.search(rf"\b{identifier.split('.')[-1]}\b", (ROOT / path).read_text()), (identifier, path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_blocks_are_closed_and_say_their_language(document: Path) -> None:
    fences = re.findall(r"^ *```.*$", document.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(document))
    assert {block.language for block in blocks(document)} <= LANGUAGES


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("folder", [ROOT / "docs", ROOT / "docs" / "decisions"], ids=name)
def test_each_page_is_in_its_index(folder: Path) -> None:
    index = folder / "README.md"
    linked = {(folder / link.partition("#")[0]).resolve() for link in links(index)}
    assert set(folder.glob("*.md")) - {index} <= linked


def test_the_glossary_has_every_word() -> None:
    words = re.findall(r"^\| ([\w ]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert {word.strip() for word in GLOSSARY.split(",")} <= set(words)
    assert len(words) - words.count("word") == len(set(words) - {"word"})


def test_relations_of_the_platform_exist() -> None:
    files = [PACKAGE / "store" / "migrations.py", *sorted((PACKAGE / "store").rglob("*.sql"))]
    migrations = "\n".join(path.read_text() for path in files)
    there: set[str] = set()
    for made, gone, renamed, name_now in _CHANGES.findall(migrations):
        there -= {gone, renamed}
        there |= {made, name_now}
    for document in DOCUMENTS:
        named = re.findall(r"(?<![\w/])platform\.([a-z_]+)\b", document.read_text())
        assert set(named) - {"yaml"} <= there, name(document)
