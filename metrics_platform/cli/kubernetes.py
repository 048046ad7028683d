"""`metrics-platform kubernetes`: the manifests of an installation on Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_ValuesPath = Annotated[
    Path, typer.Argument(metavar="VALUES", help="The values; start from docker/kubernetes/values.yaml.")
]


def kubernetes(values: _ValuesPath) -> None:
    """Check a values file and print everything that it needs on Kubernetes, for `kubectl apply -f -`.

    Exit codes: 0 printed; 1 the values, the catalogue or the clusters file have mistakes, one line for each.
    """
    from metrics_platform.kubernetes.manifests import render
    from metrics_platform.kubernetes.values import load_values

    typer.echo(render(load_values(values)), nl=False)
