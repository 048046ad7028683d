"""One bad event or metric hurts only itself: computes all metrics, or all but those that cannot be computed.

When a pass fails by an expression, each kind of event is computed by itself. Of a kind that fails, the
metrics that cannot fail by a single event are computed first, then the others by halves, down to the metrics
at fault. These are left out, each with Spark's reason. So a kind with one such metric costs a few passes, and
every other metric comes.

Only what an expression does to an event leads to that. A lost executor, a full disk or a broken connection
fails the pass as ever: the same pass may succeed a moment later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.expressions.failing import failing_calls
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Window
from metrics_platform.compute.totals import Computed, compute

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_Events = Mapping[str, "DataFrame"]
_Attempt = Callable[[_Events, Sequence[Metric]], Computed]

# Java's own exceptions that Spark's functions let through for a value that they cannot handle.
_OF_VALUES = (
    "java.lang.ArithmeticException",
    "java.lang.IllegalArgumentException",
    "java.lang.IndexOutOfBoundsException",
    "java.time.DateTimeException",
    "javax.xml.xpath.XPathException",
    "org.xml.sax.SAXException",
)
# The classes of SQLSTATE that speak of an expression or its values, not of the machinery: cardinality, data
# and constraints (of the keys of a map), what is not supported or badly formed, what raise_error raises.
_DATA_STATES = ("0A", "21", "22", "23", "42", "P0")
# Errors of these states that speak of where events are read from.
_OF_SOURCES = ("DELTA_", "FAILED_READ_FILE", "KAFKA_", "PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND")
_LONGEST_REASON = 300


def compute_isolated(
    events: _Events,
    metrics: Sequence[Metric],
    windows: Sequence[Window],
    calendar: Calendar,
    *,
    count_inside: bool = False,
    suspects: Collection[str] = (),
    between: Callable[[], object] = lambda: None,
) -> Computed:
    """Compute as `compute` does, without the metrics that cannot be computed; they are `left_out`.

    `suspects` are names of metrics that failed before: each is computed by itself from the start. `between`
    is called before each pass. Raises what Spark raises if no expression is at fault.
    """

    successes: list[Computed] = []

    def attempt(events: _Events, metrics: Sequence[Metric]) -> Computed:
        between()
        successes.append(compute(events, metrics, windows, calendar, count_inside))
        return successes[-1]

    parts = _isolate(attempt, events, [metric for metric in metrics if metric.name not in suspects])
    for metric in metrics:
        if metric.name in suspects and metric.kind in events:
            parts += _isolate(attempt, {metric.kind: events[metric.kind]}, [metric])
    merged = _merge(parts)
    failed, computed = (
        {m.kind for m in metrics if m.name in some} for some in (merged.left_out, merged.totals)
    )
    for kind in failed - computed:
        # Its events are counted though no metric of it can be computed.
        parts += _isolate(attempt, {kind: events[kind]}, [])
    if not successes:
        # Not even the events can be counted, so it is no metric's fault: this raises what Spark raises.
        return attempt(events, metrics)
    return _merge(parts)


def failure_of_expression(error: BaseException) -> str | None:
    """Why an expression could not be computed, in one line; None if something else made Spark fail."""
    from pyspark.errors import AnalysisException

    if isinstance(error, AnalysisException):
        of_sources = str(error.getCondition()).startswith(_OF_SOURCES)
        return None if of_sources else _line(str(error.getMessage() or error))
    for cause in _causes(error):
        if _is_of_values(cause):
            return _line(str(cause.getMessage()))
    return None


def _isolate(attempt: _Attempt, events: _Events, metrics: Sequence[Metric]) -> list[Computed]:
    """What can be computed of the metrics, in as few attempts as it takes to find those that cannot."""
    try:
        return [attempt(events, metrics)]
    except Exception as error:
        reason = failure_of_expression(error)
        if reason is None:
            raise
    if len(events) > 1:
        kinds = {kind: [metric for metric in metrics if metric.kind == kind] for kind in events}
        halves = [({kind: events[kind]}, mine) for kind, mine in kinds.items()]
    elif len(metrics) > 1:
        halves = [(events, some) for some in _halve(metrics)]
    else:
        return [Computed({}, {}, {}, left_out={metric.name: reason for metric in metrics})]
    return [part for half in halves for part in _isolate(attempt, *half)]


def _halve(metrics: Sequence[Metric]) -> tuple[Sequence[Metric], Sequence[Metric]]:
    """The metrics that cannot fail by a value and those that may; halves if all of them are alike."""
    safe = [metric for metric in metrics if not _may_fail(metric)]
    if 0 < len(safe) < len(metrics):
        return safe, [metric for metric in metrics if metric not in safe]
    return metrics[: len(metrics) // 2], metrics[len(metrics) // 2 :]


def _may_fail(metric: Metric) -> bool:
    """Whether one of the metric's expressions calls a function that is known to fail by a value."""
    written = [
        metric.filter,
        metric.measure.input,
        *(dimension.expression for dimension in metric.dimensions),
    ]
    return any(failing_calls(expression) for expression in written if expression)


def _merge(parts: Sequence[Computed]) -> Computed:
    """All parts together. What two parts have counted both, they have counted alike."""
    names = [field.name for field in fields(Computed)]
    merged = {name: {k: v for part in parts for k, v in getattr(part, name).items()} for name in names}
    return Computed(**merged)


def _causes(error: BaseException) -> Iterator[Any]:
    """The Java exceptions behind an error of Spark, the outermost first."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while java is not None:
        yield java
        java = java.getCause()


def _is_of_values(java: Any) -> bool:  # noqa: ANN401 - Java's objects have no type here
    from py4j.java_gateway import is_instance_of
    from pyspark import SparkContext

    gateway = SparkContext._gateway  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if is_instance_of(gateway, java, "org.apache.spark.SparkThrowable"):
        state, condition = str(java.getSqlState()), str(java.getCondition())
        return state.startswith(_DATA_STATES) and not condition.startswith(_OF_SOURCES)
    return any(is_instance_of(gateway, java, name) for name in _OF_VALUES)


def _line(text: str) -> str:
    return text.strip().splitlines()[0][:_LONGEST_REASON]
