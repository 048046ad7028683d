"""Rows iteration_throughput and six_metrics: one iteration of the stream over three million events, and its
memory.

Three programs run side by side and work in turns: the platform with one metric, a bare Spark program that
computes the same number, and the platform with the six example metrics. Each warms up once on the whole
input. The one metric reads a topic of interactions. The six metrics read as many events in all, with the
demo's share of orders (5 %), so that each of them has work.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.local.traffic.shop import INTERACTIONS, ORDERS
from metrics_platform.settings import Settings
from metrics_platform.store.connection import connect
from metrics_platform_tests.benchmarks import records
from metrics_platform_tests.benchmarks.memory import Peaks, sampling
from metrics_platform_tests.benchmarks.records import Sent
from metrics_platform_tests.benchmarks.rows import BenchError, Row, Run
from metrics_platform_tests.benchmarks.servers import Say, environment, jars, kafka_server, postgres_server
from metrics_platform_tests.benchmarks.workers import Worker, worker

EVENTS = 3_000_000
REPETITIONS = 3
METRIC = "clicks_per_page"
ONE, BARE, SIX = "one", "bare", "six"

Answer = dict[str, Any]


@dataclass(frozen=True)
class Programs:
    """The programs that this run needs, by name."""

    workers: Mapping[str, Worker]
    inputs: Mapping[str, Sent]  # what each program reads

    def turn(self, name: str) -> Answer:
        """Let one program do its work once. Raises BenchError if it did not process all of its input."""
        sent = self.inputs[name]
        if name == BARE:
            return self.workers[name].ask("query")
        start, end = sent.windows[0].start.isoformat(), sent.windows[-1].end.isoformat()
        answer = self.workers[name].ask("iterate", start=start, end=end)
        if answer["records"] != sent.events or answer["rejected"] or answer["refused"]:
            raise BenchError(f"the iteration '{name}' of {sent.events} events did not use them all: {answer}")
        return answer


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure rows iteration_throughput and six_metrics. The platform's memory goes to `peaks`."""
    names = [ONE]
    names += [BARE] if run.wants("iteration_throughput") else []
    names += [SIX] if run.wants("six_metrics", "shift_memory") else []
    with (
        kafka_server(path, say) as bootstrap,
        postgres_server(path, say, ONE, SIX) as databases,
        ExitStack() as stack,
    ):
        inputs = _inputs(run, bootstrap, names, say)
        workers = {
            name: stack.enter_context(_worker(name, path, bootstrap, databases, inputs[name]))
            for name in names
        }
        ours = [workers[name].pid for name in names if name != BARE]
        stack.enter_context(sampling(peaks, lambda: ours))
        answers = _take_turns(Programs(workers, inputs), say)
        if run.wants("iteration_throughput"):
            _compare(_stored_clicks(databases[ONE]), answers[BARE][-1]["clicks"])
            yield _throughput(run, inputs[ONE], answers)
        if run.wants("six_metrics"):
            yield _six(run, inputs[SIX], answers)


def _inputs(run: Run, bootstrap: str, names: list[str], say: Say) -> dict[str, Sent]:
    windows = records.newest_minutes(datetime.now(UTC))
    events = run.size(EVENTS)
    say(f"sending {events:,} events for each input")
    one = records.send(bootstrap, run.seed, events, {INTERACTIONS: f"{ONE}.{INTERACTIONS}"}, windows)
    inputs = {ONE: one, BARE: one}
    if SIX in names:
        topics = {kind: f"{SIX}.{kind}" for kind in (INTERACTIONS, ORDERS)}
        inputs[SIX] = records.send(bootstrap, run.seed, events, topics, windows)
    return inputs


def _worker(name: str, path: Path, bootstrap: str, databases: Mapping[str, str], sent: Sent):
    variables = environment(path, bootstrap, databases[SIX if name == SIX else ONE])
    settings = Settings.from_environment(variables)
    if name == BARE:
        topic, master, memory = (
            sent.topics[INTERACTIONS],
            settings.stream.master,
            settings.stream.driver_memory,
        )
        return worker(
            "stream_bare", name, path, variables, bootstrap, topic, master, memory, jars() / "spark"
        )
    metrics = [METRIC] if name == ONE else [metric.name for metric in load_catalog(settings.catalog).metrics]
    return worker("stream_ours", name, path, variables, f"{name}.", *metrics)


def _take_turns(programs: Programs, say: Say) -> dict[str, list[Answer]]:
    """One unmeasured round to warm up, then the measured ones."""
    answers: dict[str, list[Answer]] = defaultdict(list)
    for turn in range(REPETITIONS + 1):
        for name in programs.workers:
            answer = programs.turn(name)
            say(f"iteration, {name}: {answer['seconds']:.2f} s{'' if turn else ' (warm-up)'}")
            if turn:
                answers[name].append(answer)
    return answers


def _throughput(run: Run, sent: Sent, answers: Mapping[str, list[Answer]]) -> Row:
    ours, bare = _seconds(answers[ONE]), _seconds(answers[BARE])
    detail = {
        "events": sent.events,
        "mean_bytes": round(sent.mean_bytes),
        "ours_events_per_s": round(sent.events / statistics.median(ours)),
        "bare_events_per_s": round(sent.events / statistics.median(bare)),
        "ours_s": ours,
        "ours_commit_s": [round(answer["commit_seconds"], 3) for answer in answers[ONE]],
        "bare_s": bare,
    }
    return run.row("iteration_throughput", statistics.median(bare) / statistics.median(ours), detail)


def _six(run: Run, sent: Sent, answers: Mapping[str, list[Answer]]) -> Row:
    six, one = _seconds(answers[SIX]), _seconds(answers[ONE])
    detail = {
        "input": f"{sent.events} events for each: one metric, interactions alone; six, with 5 % orders",
        "six_events_per_s": round(sent.events / statistics.median(six)),
        "six_s": six,
        "six_commit_s": [round(answer["commit_seconds"], 3) for answer in answers[SIX]],
        "one_s": one,
    }
    return run.row("six_metrics", statistics.median(six) / statistics.median(one), detail)


def _seconds(answers: list[Answer]) -> list[float]:
    return [round(answer["seconds"], 3) for answer in answers]


def _stored_clicks(database: str) -> list[list[Any]]:
    with connect(database, "bench") as conn:
        rows = conn.execute(
            f"SELECT extract(epoch FROM window_start)::bigint, page, value FROM metrics.{METRIC} "
            "WHERE grain = 'minute'"
        ).fetchall()
    return [list(row) for row in rows]


def _compare(ours: list[list[Any]], bare: list[list[Any]]) -> None:
    """Raises BenchError unless both programs computed the same numbers."""
    if sorted(ours) != sorted(bare):
        raise BenchError(f"the programs disagree: {len(ours)} rows and {len(bare)} rows, not all equal")
