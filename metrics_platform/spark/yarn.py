"""Asks YARN why an application ended, and withdraws applications that still wait for resources.

YARN is asked through Spark's own JVM, with Hadoop's client and the configuration that Spark uses.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from py4j.protocol import Py4JError

# py4j looks names up at run time, so Java objects have no static type.
Java: TypeAlias = Any

# How long the client tries to reach a resource manager.
_ANSWER_MILLIS = "5000"


def tag() -> str:
    """The YARN tag of this process's applications. It identifies them before Spark knows their ids."""
    return re.sub(r"[^a-z0-9.-]", "-", f"metrics-platform-{socket.gethostname()}-{os.getpid()}".lower())


def diagnosis(jvm: Java, application: str) -> str:
    """YARN's diagnostics of an ended application, in one line. Empty if it has none or does not answer."""
    try:
        with _client(jvm) as client:
            id_ = jvm.org.apache.hadoop.yarn.api.records.ApplicationId.fromString(application)
            return " ".join(str(client.getApplicationReport(id_).getDiagnostics() or "").split())
    except Py4JError:
        return ""


def withdraw(jvm: Java) -> None:
    """Kill this process's applications that still wait for resources.

    Spark leaves them behind if it is ended while it waits. They would start when nobody needs them any more
    and take the resources of later applications. Errors of YARN are ignored, because the caller is about to
    end.
    """
    with suppress(Py4JError), _client(jvm) as client:
        states = jvm.org.apache.hadoop.yarn.api.records.YarnApplicationState
        waiting = jvm.java.util.EnumSet.of(states.NEW, states.NEW_SAVING, states.SUBMITTED, states.ACCEPTED)
        for report in client.getApplications(waiting):
            if report.getApplicationTags().contains(tag()):
                client.killApplication(report.getApplicationId())


@contextmanager
def _client(jvm: Java) -> Iterator[Java]:
    configuration = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration()
    configuration.set("yarn.resourcemanager.connect.max-wait.ms", _ANSWER_MILLIS)
    configuration.set("yarn.resourcemanager.connect.retry-interval.ms", "500")
    client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
    client.init(configuration)
    client.start()
    try:
        yield client
    finally:
        client.stop()
