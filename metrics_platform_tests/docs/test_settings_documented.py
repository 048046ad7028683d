"""Every environment variable of the platform is documented, and every documented one is the platform's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from metrics_platform.settings import PACKAGE, PREFIX, Settings
from metrics_platform_tests.docs.documents import DOCUMENTS, ROOT

_LAYER = re.compile(r"_(STREAM|BATCH)$")
_VARIABLE = re.compile(rf"{PREFIX}[A-Z_]*[A-Z]")


class _Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for, and has a number for everything."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.names.add(key)
        return "1"

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _settings() -> set[str]:
    asked = _Asked()
    Settings.from_environment(asked)
    return asked.names


def _of_dagster() -> set[str]:
    files = ((ROOT / file).read_text() for file in ("workspace.yaml", "dagster.yaml"))
    return set(chain.from_iterable(re.findall(r"env: (\w+)", text) for text in files))


def test_every_variable_is_documented() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    documented = {_LAYER.sub("", name) for name in _VARIABLE.findall(text)}
    assert {_LAYER.sub("", name) for name in _settings() | _of_dagster()} <= documented


def test_every_documented_variable_is_read_somewhere() -> None:
    files = [*PACKAGE.rglob("*.py"), ROOT / "docker/compose.yaml"]
    code = "\n".join(path.read_text() for path in files)
    known = {*_settings(), *_of_dagster(), *_VARIABLE.findall(code)}
    known |= {PREFIX + name for name in re.findall(r'PREFIX(?:\s*\+\s*"|\})([A-Z_]+)', code)}
    known = {_LAYER.sub("", name) for name in known}
    for document in DOCUMENTS:
        named = {_LAYER.sub("", name) for name in _VARIABLE.findall(document.read_text())}
        assert named - {PREFIX + "SPARK"} <= known, document
