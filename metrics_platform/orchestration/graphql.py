"""Questions to Dagster's webserver."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from metrics_platform.errors import PlatformError

_SECONDS = 30  # a webserver that loads its code location anew takes some seconds


class DagsterRefused(PlatformError):
    """Dagster does not answer, or does not do what it was asked; the message is one line."""


def query_dagster(ui: str, query: str, variables: Mapping[str, object]) -> dict[str, Any]:
    """The data of the webserver's answer. Raises DagsterRefused when there is none, or it is a refusal."""
    request = urllib.request.Request(  # noqa: S310 - the stack's own, or the operator's
        f"{ui.rstrip('/')}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310
            answer = json.load(response)
    except (OSError, ValueError) as error:
        raise DagsterRefused(f"the webserver at {ui} does not answer a query: {error}") from error
    if answer.get("errors"):
        raise DagsterRefused(f"the webserver refuses a query: {answer['errors'][0]['message']}")
    return answer["data"]
