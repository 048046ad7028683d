"""`metrics-platform`: puts the commands together and turns what goes wrong into one line."""

from __future__ import annotations

import sys

import typer

from metrics_platform.cli import rejected, stack, traffic
from metrics_platform.cli.accuracy import accuracy
from metrics_platform.cli.audit import audit
from metrics_platform.cli.backlog import backlog
from metrics_platform.cli.check import check
from metrics_platform.cli.corrections import corrections
from metrics_platform.cli.kubernetes import kubernetes
from metrics_platform.cli.preview import preview
from metrics_platform.cli.query import query
from metrics_platform.cli.recover import recover
from metrics_platform.cli.restate import restate
from metrics_platform.cli.shared.examples import examples
from metrics_platform.cli.watch import watch
from metrics_platform.errors import PlatformError

app = typer.Typer(
    name="metrics-platform",
    help="Product metrics twice: approximate seconds after the minute, exact within the hour.",
    epilog="Start with `metrics-platform up`; then, in another terminal, `metrics-platform status`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXAMPLES = {
    stack.up: ("up", "up --detach --free-ports --data-dir /tmp/second", "up --catalog my.yaml --traffic 0"),
    stack.down: ("down", "down --data-dir /tmp/second"),
    stack.status: ("status", "status --json"),
    check: ("check",),
    query: (
        "query clicks_per_page --grain minute --last 5",
        "query revenue_by_country --grain day --format csv",
        "query clicks_per_page --grain hour --as-of 2026-11-22T10:05",
    ),
    preview: (
        "preview changed.yaml",
        "preview changed.yaml --metric clicks_per_page --hours 6 --format json",
    ),
    restate: (
        "restate clicks_per_page --from 2026-11-22T00:00 --to 2026-11-22T12:00 --wait",
        "restate all --from 2026-11-01 --to 2026-11-08",
    ),
    backlog: ("backlog", "backlog --format json"),
    audit: (
        "audit clicks_per_page",
        "audit clicks_per_page --from 2026-11-22T00:00 --to 2026-11-23T00:00 --format json",
    ),
    corrections: (
        "corrections clicks_per_page --grain hour",
        "corrections --since 2026-11-22T10:05 --format json",
    ),
    accuracy: ("accuracy", "accuracy clicks_per_page"),
    traffic.traffic: ("traffic --rate 2000 --duration 60 --ledger sent.ndjson --seed 7",),
    recover: ("recover", "recover --books-only"),
    watch: ("watch", "watch --once"),
    stack.env: ("env --data-dir /tmp/second",),
    kubernetes: ("kubernetes docker/kubernetes/values.yaml",),
}

for command, lines in EXAMPLES.items():
    app.command(epilog=examples(*lines))(command)
app.add_typer(rejected.app, name="rejected")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 it could not be done (one line says why), 2 wrong usage."""
    try:
        app()
    except PlatformError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
