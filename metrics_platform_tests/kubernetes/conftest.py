"""The shipped values, and changes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from metrics_platform.kubernetes.values import Installation, load_values
from metrics_platform.settings import PACKAGE

ROOT = PACKAGE.parent
VALUES = ROOT / "docker" / "kubernetes" / "values.yaml"

Changed = Callable[..., Installation]


@pytest.fixture(scope="session")
def shipped() -> Installation:
    return load_values(VALUES)


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """The shipped values with some of their text replaced: changed({"cores: 2": "cores: 3"})."""

    def load(changes: dict[str, str]) -> Installation:
        text = (
            VALUES.read_text().replace("../../", f"{PACKAGE.parent}/").replace("../", f"{VALUES.parents[1]}/")
        )
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "values.yaml"
        path.write_text(text)
        return load_values(path)

    return load
