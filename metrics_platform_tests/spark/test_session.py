"""The Spark configuration that both layers share."""

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
    """A folder with these jars and the required ones."""
    for name in (*(f"spark/{artefact}-1.jar" for artefact in ARTEFACTS), *names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_missing_jar_is_one_line_with_its_name(tmp_path: Path) -> None:
    (lay_out(tmp_path) / "spark" / "delta-storage-1.jar").unlink()
    with pytest.raises(JarsMissing) as caught:
        settings(tmp_path)
    assert str(caught.value) == (
        f"no delta-storage in {tmp_path / 'spark'}; run `make setup`, or set METRICS_PLATFORM_JARS"
    )


def test_the_required_artefacts_are_those_of_the_set_up() -> None:
    pom = ET.parse(PACKAGE.parent / "pom.xml").getroot()  # noqa: S314 - our own file
    [profile] = [found for found in pom.iter(f"{POM}profile") if found.findtext(f"{POM}id") == "spark"]
    named = [found.findtext(f"{POM}artifactId") or "" for found in profile.iter(f"{POM}dependency")]
    assert sorted(name.split("_")[0] for name in named) == list(ARTEFACTS)


def test_all_jars_of_spark_and_none_of_the_broker_are_used(tmp_path: Path) -> None:
    found = settings(lay_out(tmp_path, "spark/hadoop-aws.jar", "spark/notes.txt", "kafka/kafka.jar"))
    names = [Path(jar).name for jar in found["spark.jars"].split(",")]
    assert names == sorted([*(f"{artefact}-1.jar" for artefact in ARTEFACTS), "hadoop-aws.jar"])


def test_time_zone_and_ansi_mode_do_not_come_from_spark_properties(jars: Path) -> None:
    found = settings(jars)
    assert found["spark.sql.session.timeZone"] == "Europe/Berlin"
    assert found["spark.sql.ansi.enabled"] == "false"
    assert (found["spark.driver.memory"], found["spark.sql.shuffle.partitions"]) == ("2g", "4")


def test_properties_of_the_installation_override_the_others(jars: Path, tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text("spark.ui.enabled true\n")
    assert settings(jars, replace(BATCH, properties=tmp_path / "own.conf"))["spark.ui.enabled"] == "true"
