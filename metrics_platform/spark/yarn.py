"""YARN's own word on an application: why it ended, and taking back one that still waits for room.

All of it is asked through Spark's own JVM, with Hadoop's client and the configuration that Spark uses.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from py4j.protocol import Py4JError

# py4j finds names when they are asked for: no type says what there is.
Java: TypeAlias = Any

# A resource manager that does not answer within this time is not asked again.
_ANSWER_MILLIS = "5000"


def tag() -> str:
    """What this process writes on its applications, to know them again before Spark tells their ids."""
    return re.sub(r"[^a-z0-9.-]", "-", f"metrics-platform-{socket.gethostname()}-{os.getpid()}".lower())


def diagnosis(jvm: Java, application: str) -> str:
    """What YARN says of the application's end, in one line; empty when it says nothing, or is gone too."""
    try:
        with _client(jvm) as client:
            wanted = jvm.org.apache.hadoop.yarn.api.records.ApplicationId.fromString(application)
            return " ".join(str(client.getApplicationReport(wanted).getDiagnostics() or "").split())
    except Py4JError:
        return ""


def withdraw(jvm: Java) -> None:
    """Kill the applications of this process that still wait for room.

    Spark leaves them behind when it is ended while it waits: they would start when nobody waits for them, and
    keep the next ones from the room. That YARN does not answer is no failure: there is nobody to tell it to.
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
