"""Asks all rules; one that fails becomes a finding itself, and silences no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from metrics_platform.monitoring.alarms.rules import RULE_FAILED, RULES, Rule
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.store.state.alarms import Finding, Key, Severity


@dataclass(frozen=True)
class Evaluation:
    """What the rules found."""

    findings: dict[Key, Finding]
    failed: frozenset[str]  # rules that could not be judged


def evaluate(snapshot: Snapshot, rules: Iterable[Rule] = RULES) -> Evaluation:
    """Ask the rules. Raises psycopg.OperationalError when the connection to the store is lost."""
    findings: dict[Key, Finding] = {}
    failed: set[str] = set()
    for rule in rules:
        try:
            found = list(rule.find(snapshot))
        except Exception as error:
            if snapshot.conn.broken:
                raise psycopg.OperationalError("the connection to the metric store was lost") from error
            failed.add(rule.name)
            broken = Finding(rule.name, Severity.ERROR, _one_line(error), snapshot.now)
            findings[RULE_FAILED, rule.name] = broken
        else:
            findings |= {(rule.name, one.subject): one for one in found}
    return Evaluation(findings, frozenset(failed))


def _one_line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"the rule could not be judged: {type(error).__name__}: {first}"
