"""Which commands of the documents the suite runs, and which it does not, each with the reason.

A command that is in neither list fails the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metrics_platform_tests.docs import forms
from metrics_platform_tests.docs.documents import Block, Command, commands


@dataclass(frozen=True)
class NotRun:
    """Commands that begin with `start` are not run: `reason` says why, `check` looks at their form."""

    start: str
    reason: str
    check: Callable[[str], None]


# What runs on the running stack.
RUN = (
    "cp ",
    'eval "$(.venv/bin/metrics-platform env)"',
    ".venv/bin/dagster asset materialize ",
    *(
        f".venv/bin/metrics-platform {command} "
        for command in (
            *("accuracy", "audit", "backlog", "check", "corrections", "kubernetes", "preview", "query"),
            *("rejected impaired", "rejected list", "rejected replay", "rejected show"),
            *("restate", "status", "traffic", "watch"),
        )
    ),
)

NOT_RUN = (
    NotRun("make setup", "makes the environment that the suite works in", forms.is_target),
    NotRun("make demo", "runs until Ctrl-C", forms.is_target),
    NotRun("make test", "is this suite, or a part of it", forms.is_target),
    NotRun("make soak", "takes minutes for each week", forms.is_target),
    NotRun("make bench", "needs a quiet machine for a quarter of an hour", forms.is_target),
    NotRun("docker compose ", "needs a Docker engine; docker/check.sh runs it", forms.is_compose),
    NotRun("docker build ", "needs a Docker engine; docker/check.sh runs it", forms.is_build),
    NotRun("kubectl ", "needs a Kubernetes cluster", forms.is_kubectl),
    NotRun(".venv/bin/metrics-platform up ", "starts a stack beside the running one", forms.is_platform),
    NotRun(
        ".venv/bin/metrics-platform recover ",
        "rewrites the running stack's books; the tests of ingestion recover one of their own",
        forms.is_platform,
    ),
    NotRun(".venv/bin/metrics-platform down ", "stops the running stack", forms.is_platform),
)


def exception(command: Command) -> NotRun | None:
    """Why the command is not run; None if it is."""
    found = [one for one in NOT_RUN if f"{command.text} ".startswith(one.start)]
    return found[0] if found else None


def is_run(command: Command) -> bool:
    """Whether the command is among those that are run."""
    return any(f"{command.text} ".startswith(start) for start in RUN)


def to_run(block: Block) -> list[Command]:
    """The commands of a shell block that are run."""
    return [command for command in commands(block) if exception(command) is None]
