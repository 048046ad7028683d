"""What Dagster says of the shift's runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metrics_platform.local.stack import Stack
from metrics_platform.orchestration.graphql import query_dagster

_RUNS = """
    query {
      runsOrError(filter: {pipelineName: "shift"}) {
        ... on Runs { results { id status startTime endTime } }
      }
    }
"""
_WHY = """
    query($id: ID!) {
      logsForRun(runId: $id) {
        ... on EventConnection {
          events { ... on ExecutionStepFailureEvent { error { message causes { message } } } }
        }
      }
    }
"""


@dataclass(frozen=True)
class Run:
    """One run of the shift; `end` in seconds since 1970, None while it is at work."""

    run_id: str
    status: str
    end: float | None


def shifts(stack: Stack) -> list[Run]:
    """The shift's runs, the oldest first."""
    found: list[dict[str, Any]] = query_dagster(stack.state.ui, _RUNS, {})["runsOrError"]["results"]
    return [Run(each["id"], each["status"], each["endTime"]) for each in reversed(found)]


def failed(stack: Stack, count: int) -> bool:
    """Whether so many shifts have failed by now."""
    return [run.status for run in shifts(stack)].count("FAILURE") >= count


def why(stack: Stack, run: Run) -> list[str]:
    """Everything that the run's log says of its failure: messages and their causes."""
    events = query_dagster(stack.state.ui, _WHY, {"id": run.run_id})["logsForRun"]["events"]
    errors = [event["error"] for event in events if event.get("error")]
    return [each["message"] for error in errors for each in (error, *error["causes"])]
