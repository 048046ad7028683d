"""`metrics-platform check`: what a person sees of a good and of a broken catalogue."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.cli.check import check, describe
from metrics_platform.local import state
from metrics_platform.local.ports import Ports
from metrics_platform.local.state import StackState
from metrics_platform.processes import Identity
from metrics_platform.settings import PACKAGE, PREFIX

EXAMPLE = PACKAGE / "catalog" / "webshop.yaml"

app = typer.Typer()
app.command()(check)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a stack, and no installation in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("CATALOG", "POSTGRES"):
        monkeypatch.delenv(PREFIX + name, raising=False)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """The catalogue of a default stack that runs here."""
    catalog = tmp_path / "mine.yaml"
    catalog.write_text(EXAMPLE.read_text())
    (tmp_path / state.DATA_DIR).mkdir()
    state.write_state(
        StackState(
            tmp_path / state.DATA_DIR, Ports(), catalog, tmp_path, 0, supervisor=Identity.of(os.getpid())
        )
    )
    return catalog


def test_without_a_file_the_running_stack_is_checked(stack: Path) -> None:
    assert f"{stack} can be used." in CliRunner().invoke(app).stdout.replace("\n", "")


def test_servers_elsewhere_go_before_the_stack(stack: Path) -> None:
    result = CliRunner().invoke(app, env={PREFIX + "POSTGRES": "postgresql://elsewhere/metrics"})
    assert "webshop.yaml can be used." in result.stdout


def test_without_a_stack_the_example_is_checked() -> None:
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    assert "webshop.yaml can be used." in result.stdout
    assert "unique_visitors_per_page" in result.stdout


def test_the_setting_names_the_file_and_the_option_wins(tmp_path: Path) -> None:
    environment = {"METRICS_PLATFORM_CATALOG": str(tmp_path / "none.yaml")}
    assert CliRunner().invoke(app, env=environment).exit_code == 1
    assert CliRunner().invoke(app, ["--catalog", str(EXAMPLE)], env=environment).exit_code == 0


def test_mistakes_are_printed_one_a_line_on_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(EXAMPLE.read_text().replace("3m\n", "soon\n").replace("{sum: amount}", "{sum: amout}"))
    result = CliRunner().invoke(app, ["--catalog", str(path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    first, second, count = result.stderr.splitlines()
    assert first.startswith(f"{path}:")
    assert "freshness: 'soon' is no length of time; write" in first
    assert second.endswith("sum: unknown field 'amout'; did you mean 'amount'?")
    assert count == "2 mistakes"


def test_a_function_that_fails_by_one_event_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(EXAMPLE.read_text().replace("dimensions: [page]", "dimensions: {page: url_decode(page)}"))
    result = CliRunner().invoke(app, ["--catalog", str(path)])
    assert result.exit_code == 0
    assert "can be used" in result.stdout
    assert result.stderr.splitlines() == [
        f"warning: metric '{name}': url_decode() fails on a value that it cannot handle, and then the metric "
        "has no number; write try_url_decode(...)"
        for name in ("clicks_per_page", "unique_visitors_per_page")
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_description_says_all_in_any_width(width: int) -> None:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(describe(load_catalog(EXAMPLE)))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    words = " ".join(text.split())
    assert "…" not in text
    assert "time zone Europe/Berlin" in words
    assert "topics web.orders" in words
    assert "minute 1w, hour 90d, day 3y, week 10y" in words
    assert "filter type = 'click'" in words
    assert "measure percentiles of checkout_ms (double) at 0.5, 0.95, 0.99" in words
    assert "columns events bigint, overflowed bigint, total numeric, inputs bigint, value numeric" in words
    assert f"version {load_catalog(EXAMPLE).metric('average_order_value').version}" in words


def test_square_brackets_in_a_catalogue_are_text(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(EXAMPLE.read_text().replace("type = 'click'", "split(page, '/')[1] = ''"))
    result = CliRunner().invoke(app, ["--catalog", str(path)])
    assert "split(page, '/')[1] = ''" in result.stdout


def test_checking_imports_neither_spark_nor_dagster() -> None:
    code = "import sys, metrics_platform.cli.check; print({'pyspark', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
