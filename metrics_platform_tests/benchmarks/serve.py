"""The program's side of workers.py: reads commands, a line each, and answers them."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import psutil
from pyspark.sql import SparkSession

Command = Callable[..., object]


def own_answers() -> TextIO:
    """Reserve standard output for answers; everything that is printed goes to the log.

    Call it before Spark starts.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers: TextIO, spark: SparkSession, commands: Mapping[str, Command]) -> None:
    """Answer commands until the input ends, then stop the session. An error is an answer, too."""
    known: dict[str, Command] = {"hello": lambda: "ready", **commands}
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        try:
            reply = {"answer": known[asked["command"]](**asked["arguments"])}
        except Exception as error:  # the parent turns any error into a failed row
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        answers.write(json.dumps(reply, default=str) + "\n")
        answers.flush()
    spark.stop()


def cpu_seconds(*servers: int) -> float:
    """CPU seconds so far, of this process, its children and the processes `servers`."""
    own = psutil.Process()
    family = [own, *own.children(recursive=True), *map(psutil.Process, servers)]
    return sum(sum(process.cpu_times()[:4]) for process in family)
