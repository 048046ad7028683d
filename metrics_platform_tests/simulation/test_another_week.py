"""Another random week, in a file of its own: another worker can live through it meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.seed import live_and_judge

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SECOND = 3


def test_another_one_too(servers: Servers, spark: SparkSession, data_dir: Path) -> None:
    assert live_and_judge(SECOND, servers, spark, data_dir / "seed", print).differences == []
