"""The licence is named, shipped and whole."""

from __future__ import annotations

import tomllib

from setuptools.config.pyprojecttoml import read_configuration

from metrics_platform_tests.docs.documents import ROOT

PYPROJECT = ROOT / "pyproject.toml"


def test_the_package_names_its_licence() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert read_configuration(PYPROJECT)["project"]["license"] == "Apache-2.0"


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_the_image_is_built_with_all_that_the_package_names() -> None:
    [copied] = [
        line for line in (ROOT / "docker/Dockerfile").read_text().splitlines() if "COPY pyproject" in line
    ]
    admitted = (ROOT / ".dockerignore").read_text().splitlines()
    for name in ("README.md", "LICENSE"):
        assert name in copied.split()
        assert f"!{name}" in admitted
