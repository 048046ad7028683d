"""The settings that both layers share."""

from pathlib import Path

import pytest

from metrics_platform.catalog.load import load_catalog
from metrics_platform.compute.session import JarsMissing, spark_settings
from metrics_platform.settings import PACKAGE

CATALOG = load_catalog(PACKAGE / "catalog" / "webshop.yaml")


def settings(jars: Path, master: str = "local[2]") -> dict[str, str]:
    return spark_settings(CATALOG, jars, master, "1g", 4)


def test_without_jars_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JarsMissing) as caught:
        settings(tmp_path)
    assert str(caught.value) == (
        f"no JVM artefacts in {tmp_path / 'spark'}; run `make setup`, or set METRICS_PLATFORM_JARS"
    )


def test_all_jars_of_spark_and_none_of_the_broker_are_used(tmp_path: Path) -> None:
    for name in ("spark/b.jar", "spark/a.jar", "spark/notes.txt", "kafka/kafka.jar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert settings(tmp_path)["spark.jars"] == f"{tmp_path}/spark/a.jar,{tmp_path}/spark/b.jar"


def test_what_changes_a_number_comes_from_the_catalogue(jars: Path) -> None:
    found = settings(jars)
    assert found["spark.sql.session.timeZone"] == "Europe/Berlin"
    assert found["spark.sql.ansi.enabled"] == "false"
    assert (found["spark.driver.memory"], found["spark.sql.shuffle.partitions"]) == ("1g", "4")


def test_only_a_local_session_keeps_to_loopback(jars: Path) -> None:
    assert settings(jars)["spark.driver.host"] == "127.0.0.1"
    assert "spark.driver.host" not in settings(jars, "spark://cluster:7077")
