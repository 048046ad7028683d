"""The batch's small rules: what nothing looks like, how a backlog is cut."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.batch.parts import empty_totals
from metrics_platform.catalog.model import Catalog
from metrics_platform.events.kafka.offsets import OffsetRange
from metrics_platform.ingestion.ingest import RECORDS_PER_STEP, records_per_step, split
from metrics_platform.settings import BATCH


def test_totals_of_nothing_have_the_columns_of_totals_and_no_rows(webshop: Catalog) -> None:
    for metric in webshop.metrics:
        nothing = empty_totals(metric)
        assert nothing.num_rows == 0
        assert set(nothing.column_names) == {
            "grain",
            "window_start",
            "events",
            "overflowed",
            *(dimension.name for dimension in metric.dimensions),
            *(state.name for state in metric.measure.states),
        }


@st.composite
def backlogs(draw: st.DrawFn) -> list[OffsetRange]:
    """What is owed of some partitions; of some of them nothing."""
    starts = draw(st.lists(st.integers(0, 10_000), max_size=4))
    return [
        OffsetRange("local", "web.orders", partition, start, start + draw(st.integers(0, 500)))
        for partition, start in enumerate(starts)
    ]


@given(backlogs(), st.integers(10, 3_000))
def test_portions_tile_every_partition(backlog: list[OffsetRange], most: int) -> None:
    portions = list(split(backlog, most))
    for place, owed in enumerate(backlog):
        parts = [portion[place] for portion in portions]
        assert {part.key for part in parts} == {owed.key}
        assert (parts[0].start, parts[-1].end) == (owed.start, owed.end)
        assert all(one.end == other.start for one, other in pairwise(parts))


@given(backlogs(), st.integers(10, 3_000))
def test_portions_are_about_as_large_as_asked_and_no_more_than_needed(
    backlog: list[OffsetRange], most: int
) -> None:
    owed = sum(part.records for part in backlog)
    portions = list(split(backlog, most))
    assert len(portions) == max(1, -(-owed // most))
    # Each partition is cut to whole records, so a portion may be larger by less than one of each.
    assert all(sum(part.records for part in portion) <= most + len(backlog) for portion in portions)


def test_nothing_owed_is_still_one_portion_so_that_the_ledger_hears_of_it() -> None:
    nothing = [OffsetRange("local", "web.orders", 0, 7, 7)]
    assert list(split(nothing, 100)) == [nothing]
    assert list(split([], 100)) == [[]]


def test_a_step_grows_with_the_cluster() -> None:
    away = replace(BATCH, master="spark://master:7077", executors=8, cores=4)
    assert records_per_step(BATCH) == RECORDS_PER_STEP
    assert records_per_step(replace(away, executors=1, cores=1)) == RECORDS_PER_STEP
    assert records_per_step(away) == 16 * RECORDS_PER_STEP
