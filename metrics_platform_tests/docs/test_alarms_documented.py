"""The page on alarms has the words of the code."""

from __future__ import annotations

from metrics_platform.monitoring.alarms.rules import RULES
from metrics_platform_tests.docs.documents import ROOT


def test_the_table_of_alarms_is_that_of_the_rules() -> None:
    lines = (ROOT / "docs" / "alarms.md").read_text().splitlines()
    start = lines.index("| alarm | what it means | when it is raised | what to do |") + 2
    table = lines[start : start + len(RULES) + 1]
    assert table == [
        *(f"| `{rule.name}` | {rule.meaning} | {rule.raised} | {rule.remedy} |" for rule in RULES), ""
    ]  # fmt: skip
