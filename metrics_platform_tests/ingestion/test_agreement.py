"""Metric store and raw store must belong together, or nothing is ingested; and one line says what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metrics_platform.events.step_marks import StepMark, StoredSteps, application_id, newest_steps
from metrics_platform.ingestion.agreement import KnownSteps, disagreement

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
OURS, OTHERS = "ours", "theirs"


def stored(newest: dict[str | None, int], step: int = 0, at: datetime = AT, owner: str = OURS) -> StoredSteps:
    return StoredSteps(newest, StepMark(owner, step, at) if step else None)


def known(planned: int, in_store: int, at: datetime | None = AT) -> KnownSteps:
    return KnownSteps(OURS, planned, in_store, at)


FITTING = {
    "nothing yet": (stored({}), known(0, 0, None)),
    "the same newest step": (stored({OURS: 7}, 7), known(7, 7)),
    "a step that was written and not finished": (stored({OURS: 8}, 8), known(8, 7)),
    "a step that was planned and not written": (stored({OURS: 7}, 7), known(8, 7)),
    "steps without records since": (stored({OURS: 7}, 7), known(9, 7)),
    "steps of before marks": (StoredSteps({None: 7}, None), known(7, 7)),
    "a mark that Delta's log no longer has": (StoredSteps({OURS: 7}, None), known(7, 7)),
}
WRONG = {
    "a database made anew": (stored({OTHERS: 7}, 7, owner=OTHERS), known(0, 0, None), "another metric store"),
    "a database made anew that has planned": (
        stored({OTHERS: 7}, 7, owner=OTHERS),
        known(9, 0),
        "another metric store",
    ),
    "a restored database": (stored({OURS: 7}, 7), known(5, 5, None), "knows only 5"),
    "a database that lost its last commits and planned again": (
        stored({OURS: 7}, 7),
        known(7, 6, AT + timedelta(minutes=3)),
        "is another one",
    ),
    "an emptied raw store": (stored({}), known(7, 7, None), "holds ingestion step none"),
    "a restored raw store": (stored({OURS: 5}, 5), known(7, 7), "holds ingestion step 5"),
}


@pytest.mark.parametrize("case", FITTING)
def test_what_belongs_together_is_let_on(case: str) -> None:
    assert disagreement("visits", "/raw/visits", *FITTING[case]) is None


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_belong_together_is_one_line_with_a_way_out(case: str) -> None:
    raw, books, words = WRONG[case]
    line = disagreement("visits", "/raw/visits", raw, books) or ""
    assert words in line
    assert "metrics-platform recover" in line
    assert "'visits' (/raw/visits" in line
    assert "\n" not in line


def test_a_mark_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    mark = StepMark(OURS, 7, AT, (), (("local", "web.visits", "id"),))
    assert StepMark.from_json(mark.to_json()) == mark
    assert [StepMark.from_json(text) for text in (None, "", "nightly", "[]", '{"by": "hand"}')] == [None] * 5


def test_steps_are_told_by_their_application() -> None:
    transactions = {
        application_id("visits", OURS): 7,
        application_id("visits", None): 3,
        application_id("orders", OURS): 9,
        "somebody else": 1,
    }
    assert newest_steps("visits", transactions) == {OURS: 7, None: 3}
