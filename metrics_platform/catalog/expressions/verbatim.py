"""Reads an expression so that it can be written again with the same functions.

sqlglot knows many functions and writes some of them by another name (`log10(x)` as `log(10, x)`, which gives
other digits). Here it knows none, so each is written as it was read.
"""

from __future__ import annotations

from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.spark import Spark


class _Spark(Spark):
    """Spark's dialect, in which '' is a quote within a text, as in Spark 4."""

    class Tokenizer(Spark.Tokenizer):
        STRING_ESCAPES: ClassVar = ["\\", "'"]


class _Verbatim(_Spark):
    """The dialect without its functions. Without `array`, sqlglot would lose the index in array(1, 2)[n]."""

    class Parser(Spark.Parser):
        FUNCTIONS: ClassVar = {"ARRAY": Spark.Parser.FUNCTIONS["ARRAY"]}


def read_verbatim(sql: str) -> exp.Expr | None:
    """The tree of a checked expression; None if it cannot be written again with the same meaning."""
    try:
        tree = sqlglot.parse_one(sql, dialect=_Verbatim, into=exp.Condition)
        faithful = understand(write_verbatim(tree)) == understand(sql)
    except sqlglot.ParseError:
        return None
    return tree if faithful else None


def write_verbatim(tree: exp.Expr) -> str:
    """The tree as text."""
    return tree.sql(_Verbatim)


def understand(sql: str) -> exp.Expr:
    """The tree with functions that sqlglot knows."""
    return sqlglot.parse_one(sql, dialect=_Spark, into=exp.Condition)
