"""The settings that point every part of the platform at a local stack."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from metrics_platform.local.ports import HOST
from metrics_platform.local.servers import kafka, postgres
from metrics_platform.local.state import StackState
from metrics_platform.settings import PREFIX


def environment(state: StackState) -> dict[str, str]:
    """The variables by which the platform and Dagster find this stack."""
    data_dir, ports = state.data_dir, state.ports
    return {
        PREFIX + "CATALOG": str(state.catalog),
        PREFIX + "CLUSTERS": str(data_dir / "clusters.yaml"),
        PREFIX + "POSTGRES": postgres.url(ports.postgres, postgres.METRICS),
        PREFIX + "RAW_STORE": str(data_dir / "raw"),
        PREFIX + "JARS": str(state.jars),
        PREFIX + "CODE_HOST": HOST,
        PREFIX + "CODE_PORT": str(ports.code_server),
        PREFIX + "DAGSTER_POSTGRES": postgres.url(ports.postgres, postgres.DAGSTER),
        PREFIX + "DAGSTER_UI": state.ui,
        "DAGSTER_HOME": str(data_dir / "dagster"),
    }


def clusters_yaml(state: StackState) -> str:
    """The clusters file of this stack: one cluster, the local broker."""
    return (
        "# Written by `metrics-platform up`.\n"
        "clusters:\n"
        "  - name: local\n"
        f"    bootstrap_servers: {kafka.bootstrap(state.ports.kafka)}\n"
    )


def exports(variables: Mapping[str, str]) -> str:
    """Lines for a shell: `eval "$(metrics-platform env)"`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
