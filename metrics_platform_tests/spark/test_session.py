"""The settings that both layers share."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.settings import BATCH, PACKAGE, SparkSettings
from metrics_platform.spark.session import ARTEFACTS, JarsMissing, spark_settings

POM = "{http://maven.apache.org/POM/4.0.0}"
CATALOG = load_catalog(PACKAGE / "catalog" / "webshop.yaml")


def settings(jars: Path, spark: SparkSettings = BATCH) -> dict[str, str]:
    return spark_settings(CATALOG, jars, spark, 4)


def lay_out(folder: Path, *names: str) -> Path:
    """A folder of jars that has these beside what a session cannot do without."""
    for name in (*(f"spark/{artefact}-1.jar" for artefact in ARTEFACTS), *names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_without_a_jar_one_line_says_which_and_what_to_do(tmp_path: Path) -> None:
    (lay_out(tmp_path) / "spark" / "delta-storage-1.jar").unlink()
    with pytest.raises(JarsMissing) as caught:
        settings(tmp_path)
    assert str(caught.value) == (
        f"no delta-storage in {tmp_path / 'spark'}; run `make setup`, or set METRICS_PLATFORM_JARS"
    )


def test_what_a_session_cannot_do_without_is_what_the_set_up_brings() -> None:
    pom = ET.parse(PACKAGE.parent / "pom.xml").getroot()  # noqa: S314 - our own file
    [profile] = [found for found in pom.iter(f"{POM}profile") if found.findtext(f"{POM}id") == "spark"]
    named = [found.findtext(f"{POM}artifactId") or "" for found in profile.iter(f"{POM}dependency")]
    assert sorted(name.split("_")[0] for name in named) == list(ARTEFACTS)


def test_all_jars_of_spark_and_none_of_the_broker_are_used(tmp_path: Path) -> None:
    found = settings(lay_out(tmp_path, "spark/hadoop-aws.jar", "spark/notes.txt", "kafka/kafka.jar"))
    names = [Path(jar).name for jar in found["spark.jars"].split(",")]
    assert names == sorted([*(f"{artefact}-1.jar" for artefact in ARTEFACTS), "hadoop-aws.jar"])


def test_what_changes_a_number_comes_from_the_catalogue(jars: Path) -> None:
    found = settings(jars)
    assert found["spark.sql.session.timeZone"] == "Europe/Berlin"
    assert found["spark.sql.ansi.enabled"] == "false"
    assert (found["spark.driver.memory"], found["spark.sql.shuffle.partitions"]) == ("2g", "4")


def test_an_installations_own_properties_win(jars: Path, tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text("spark.ui.enabled true\n")
    assert settings(jars, replace(BATCH, properties=tmp_path / "own.conf"))["spark.ui.enabled"] == "true"
