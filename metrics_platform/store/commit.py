"""The commit: the one place where a new number may replace an old one.

The rule, for one metric and one window:

* An exact number (source `batch`) replaces an approximate one, whatever their ages.
* An approximate number never replaces an exact one.
* Between two numbers of the same kind the one with the higher revision stays. A revision is drawn
  before the input is read, so the higher one has seen at least as much; the same revision again is
  the same commit repeated, and changes nothing.
* The definition plays no part: a newer definition's approximate number does not replace an exact one.

A window is replaced whole, its rows and its line in the ledger in one transaction, and a window
without events is a window too: its old rows go and the ledger says 0.

After that, each enclosing window is merged anew from all finer windows that are present (see rollup.py):
hour from minutes, day from hours, week from days. It is exact when all of them are.

Concurrency: whoever writes a minute or an hour holds the hour's advisory lock; whoever writes a day or a
week holds that day's or week's. Locks are taken finest grain first and oldest first, always, so two
commits cannot wait for each other in a circle, and everything that a decision or a merge depends on is
read after the lock. Days and weeks are locked only when their merge begins: a long batch commit
does not hold up the stream.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.errors import PlatformError
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection, only
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.ledger import Label, Source
from metrics_platform.store.locks import GRAINS, lock_definitions, lock_windows
from metrics_platform.store.quality import accuracy, corrections
from metrics_platform.store.quality.revisions import supersede
from metrics_platform.store.rollup import Merged, is_exact, roll_up
from metrics_platform.store.schema import current_versions
from metrics_platform.store.staging import Prepared, key, prepare, replace, stage
from metrics_platform.store.state.lease import Fence, check_fence
from metrics_platform.store.state.owed.backlog import settle_exact


@dataclass(frozen=True)
class Commit:
    """Totals on their way into the store.

    `windows` are all windows that were computed, with rows or without; a stream's are minutes. `totals` has,
    per metric, the columns grain (string), window_start (timestamp[us, UTC]), the dimensions, events and
    overflowed (int64) and the measure's state, but no values. `fence` is what a shift must still be entitled
    to.
    `minutes_present` says how many minutes of a window were counted, where that is not all of them. `seen`
    says, by kind of event, what the windows' coverage needs. `reasons` says why a batch computes windows
    again, where the log of corrections shall say more than that it did. `planned_at` is when the windows were
    planned by what is kept, if before `now`. `incomplete` are, by kind of event, the windows in whose time
    records were lost: there an older number may count more, and then it stays.
    """

    source: Source
    revision: int
    run_id: str
    now: datetime
    windows: tuple[Window, ...]
    totals: Mapping[str, pa.Table]
    fence: Fence | None = None
    minutes_present: Mapping[Window, int] | None = None
    coverage_inputs: Mapping[str, CoverageInput] = field(default_factory=dict)
    reasons: Mapping[Window, str] | None = None
    planned_at: datetime | None = None
    incomplete: Mapping[str, Collection[Window]] = field(default_factory=dict)


@dataclass(frozen=True)
class Committed:
    """What a commit did, as (metric, window): written, refused by the rule, and now exact for the first time.

    `rows` counts the rows of the written windows, without those of the roll-up; `became_exact` includes the
    enclosing windows that the roll-up made exact.
    """

    written: tuple[tuple[str, Window], ...]
    refused: tuple[tuple[str, Window], ...]
    became_exact: tuple[tuple[str, Window], ...]
    rows: int


class StaleDefinition(PlatformError):
    """The store's relation of a metric follows another definition than the one this run loaded."""


def next_revision(conn: Connection) -> int:
    """Draw a revision. Do it before reading the input: a later reading then always has the higher one."""
    return only(conn.execute("SELECT nextval('platform.revision')"))[0]


def replaces(source: Source, revision: int, old: Label | None) -> bool:
    """The rule: whether a number of this source and revision may take the place of the old one."""
    if old is None:
        return True
    if (source is Source.BATCH) != old.from_batch:
        return source is Source.BATCH
    return revision >= old.revision


def commit(conn: Connection, catalog: Catalog, commit: Commit) -> Committed:
    """Put the commit's windows into the store by the rule above, in one transaction.

    Raises FenceLost when the commit's fence is no longer current, StaleDefinition when the store was migrated
    to another definition of a metric, and ValueError when the commit contradicts itself: totals of windows
    that it does not name, or a stream's window that is no minute.
    """
    prepared = [prepare(catalog.metric(name), totals) for name, totals in commit.totals.items()]
    _check(commit, prepared)
    with conn.transaction():
        lock_definitions(conn, shared=True)
        _refuse_stale(conn, [one.metric for one in prepared])
        for one in prepared:
            stage(conn, one)
        if commit.fence:
            check_fence(conn, commit.fence)
        lock_windows(conn, _locked_first(catalog, commit.windows))
        return _replace(conn, catalog, commit, prepared)


def _replace(conn: Connection, catalog: Catalog, commit: Commit, prepared: list[Prepared]) -> Committed:
    """Decide, replace, label, roll up: everything that happens under the locks."""
    known = ledger.labels(conn, commit.totals, commit.windows)
    written: dict[str, list[Window]] = {}
    new: list[Label] = []
    for one in prepared:
        name = one.metric.name
        written[name] = [
            window
            for window in commit.windows
            if replaces(commit.source, commit.revision, known.get((name, window)))
            and not _counts_less(commit, one.metric, window, known.get((name, window)))
        ]
        if written[name]:
            replace(conn, one, written[name], commit.now)
        new += [_label(commit, one, window) for window in written[name]]
    ledger.write_labels(conn, new)
    supersede(conn, catalog, new, commit.now)
    # The minutes are most of it: they are compared before the roll-up locks days and weeks.
    _note_corrections(conn, commit, prepared, [Grain.MINUTE])
    # What was kept when the windows were planned is merged, though retention may have passed it since.
    planned_at = commit.planned_at or commit.now
    merged = roll_up(conn, catalog, written, commit.run_id, commit.now, planned_at)
    _note_corrections(conn, commit, prepared, [Grain.HOUR, Grain.DAY, Grain.WEEK])
    if commit.source is Source.BATCH:
        settle_exact(conn, commit.windows, commit.now)
    return _committed(commit, prepared, written, known, merged)


def _counts_less(commit: Commit, metric: Metric, window: Window, old: Label | None) -> bool:
    """Whether a number would be replaced by one of fewer events, because records were lost."""
    if old is None or window not in commit.incomplete.get(metric.kind, ()):
        return False
    inputs = commit.coverage_inputs.get(metric.kind)
    return inputs is not None and inputs.counted.get(window, 0) < (old.counted or 0)


def _note_corrections(
    conn: Connection, commit: Commit, prepared: list[Prepared], grains: Sequence[Grain]
) -> None:
    """Log what a batch has replaced in this transaction, and learn from it."""
    if commit.source is Source.BATCH:
        for one in prepared:
            corrections.record_corrections(conn, one.metric, grains, commit.reasons or {})
            accuracy.learn(conn, one.metric, grains, commit.now)


def _committed(
    commit: Commit,
    prepared: list[Prepared],
    written: Mapping[str, list[Window]],
    known: Mapping[tuple[str, Window], Label],
    merged: Iterable[Merged],
) -> Committed:
    done = tuple((name, window) for name, windows in written.items() for window in windows)
    everything = ((name, window) for name in commit.totals for window in commit.windows)
    accepted = set(done)
    return Committed(
        written=done,
        refused=tuple(one for one in everything if one not in accepted),
        became_exact=(
            *(one for one in done if commit.source is Source.BATCH and not is_exact(known.get(one))),
            *((one.label.metric, one.label.window) for one in merged if one.became_exact),
        ),
        rows=sum(one.rows.get(key(window), 0) for one in prepared for window in written[one.metric.name]),
    )


def _label(commit: Commit, prepared: Prepared, window: Window) -> Label:
    present = (commit.minutes_present or {}).get(window, window.minutes)
    seen = commit.coverage_inputs.get(prepared.metric.kind)
    return Label(
        metric=prepared.metric.name,
        window=window,
        source=commit.source,
        revision=commit.revision,
        minutes_present=present,
        minutes_total=window.minutes,
        events=prepared.events.get(key(window), 0),
        definition=prepared.metric.version,
        run_id=commit.run_id,
        committed_at=commit.now,
        first_committed_at=commit.now,
        exact_at=commit.now if commit.source is Source.BATCH else None,
        minutes_lost=seen.lost * present if seen else 0.0,
        counted=seen.counted.get(window, 0) if seen else None,
        overflowed=prepared.overflowed.get(key(window), 0),
    )


def _check(commit: Commit, prepared: list[Prepared]) -> None:
    if commit.source is Source.ROLLUP:
        raise ValueError("roll-ups are made by the commits of their parts; commit a stream or a batch")
    if commit.source is Source.STREAM and any(window.grain is not Grain.MINUTE for window in commit.windows):
        raise ValueError("a stream commits minutes only; the coarser windows are rolled up from them")
    named = {key(window) for window in commit.windows}
    for one in prepared:
        strange = sorted(f"{grain} {start}" for grain, start in one.rows.keys() - named)
        if strange:
            raise ValueError(
                f"the totals of '{one.metric.name}' hold windows not committed: {', '.join(strange[:3])}"
            )


def _refuse_stale(conn: Connection, metrics: list[Metric]) -> None:
    versions = current_versions(conn)
    for metric in metrics:
        if versions.get(metric.name) != metric.version:
            raise StaleDefinition(
                f"metric '{metric.name}': the store follows definition {versions.get(metric.name)}, "
                f"this run loaded {metric.version}; run it again with the catalogue of the code server"
            )


def _locked_first(catalog: Catalog, windows: Iterable[Window]) -> set[Window]:
    """What to lock before anything is decided, so that the roll-up's locks always come later in the order.

    That is the windows themselves (a minute by its hour) and, up to the coarsest grain among them, what
    encloses them.
    """
    found = {
        around
        for window in windows
        for around in (window, *catalog.calendar.enclosing(window))
        if around.grain is not Grain.MINUTE
    }
    coarsest = max((GRAINS.index(window.grain) for window in windows), default=0)
    reach = max(coarsest, GRAINS.index(Grain.HOUR))
    return {window for window in found if GRAINS.index(window.grain) <= reach}
