"""What Spark refuses of a query, in one line of its own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class QueryRefused(Exception):
    """Spark refuses a query before it runs; the message is Spark's first line.

    `fragments` are the parts of the query's text that it is about, as far as Spark names them.
    """

    def __init__(self, message: str, fragments: tuple[str, ...]) -> None:
        super().__init__(message)
        self.fragments = fragments


@contextmanager
def refusals() -> Iterator[None]:
    """Raises QueryRefused where Spark raises an AnalysisException with pages of Java."""
    from pyspark.errors import AnalysisException
    from pyspark.logger import PySparkLogger

    # Spark's client would log each refusal with the JVM's stack.
    PySparkLogger.getLogger("SQLQueryContextLogger").setLevel("CRITICAL")
    try:
        yield
    except AnalysisException as error:
        line = (error.getMessage() or str(error)).strip().splitlines()[0]
        raise QueryRefused(line, tuple(context.fragment() for context in error.getQueryContext())) from None
