"""The audit of a pass: whether the books of its windows balance, before anything is committed.

Ingestion counted the events that it accepted, by minute and cluster, as it read them back from the raw store
at its steps. The batch reads the raw store again, much later and by other code, up to the same step, and
counts what it finds: events that count, and duplicates. Both must agree in each minute and cluster:

    accepted + redelivered = counted + duplicates + erased

Where they differ, rows were lost from the raw store, or written by nobody, or computed wrongly. Then no
number of the window is exact. Everything here is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.compute.totals import Computed
from metrics_platform.store.state.books.audits import Audit
from metrics_platform.store.state.books.event_counts import IngestedCounts

# How many minutes a difference names; the others are counted.
_NAMED = 3

Minutes = Mapping[tuple[datetime, str], int]  # events by minute and cluster


def audit_pass(
    units: Iterable[Window], ingested: Mapping[str, IngestedCounts], computed: Computed
) -> list[Audit]:
    """The audit of each unit and kind of event; `ingested` is what ingestion accepted of each kind."""
    units = list(units)
    found: list[Audit] = []
    for kind, books in ingested.items():
        counted = _of_kind(computed.inside, kind)
        duplicates = _of_kind(computed.duplicates, kind)
        found += [audit_unit(kind, unit, books, counted, duplicates) for unit in units]
    return found


def audit_unit(
    kind: str, unit: Window, books: IngestedCounts, counted: Minutes, duplicates: Minutes
) -> Audit:
    """The audit of one unit. Hours are compared minute by minute, as long as counts of minutes are kept."""
    by_minute = unit.grain is Grain.HOUR
    accepted, redelivered = _expected(unit, books, by_minute=by_minute)
    audit = Audit(
        kind=kind,
        window=unit,
        step=books.step,
        accepted=accepted,
        redelivered=redelivered,
        counted=_within(counted, unit),
        duplicates=_within(duplicates, unit),
    )
    places = _different_minutes(unit, books, counted, duplicates) if by_minute else []
    if audit.balanced and not places:
        return audit
    return replace(audit, differences=_in_words(audit, places))


def counted_events(
    windows: Iterable[Window], kind: str, computed: Computed, books: IngestedCounts
) -> dict[Window, int]:
    """How many of the kind's accepted events the pass read in each of the windows, duplicates included.

    Redelivered ones are left out: they are not among the events of which coverage speaks.
    """
    counted, duplicates = _of_kind(computed.inside, kind), _of_kind(computed.duplicates, kind)
    again = {key: -redelivered for key, (_, redelivered) in books.minutes.items() if redelivered}
    found = Counter[datetime]()
    for (minute, _), events in (*counted.items(), *duplicates.items(), *again.items()):
        found[minute] += events
    minutes = sorted(found)
    return {
        window: sum(found[minute] for minute in minutes if window.start <= minute < window.end)
        for window in windows
    }


def _of_kind(events: Mapping[tuple[str, str, datetime], int], kind: str) -> dict[tuple[datetime, str], int]:
    return {(minute, cluster): n for (name, cluster, minute), n in events.items() if name == kind}


def _within(events: Minutes, unit: Window) -> int:
    return sum(number for (minute, _), number in events.items() if unit.contains(minute))


def _expected(unit: Window, books: IngestedCounts, *, by_minute: bool) -> tuple[int, int]:
    """Accepted and redelivered events of the unit."""
    if not by_minute:
        return books.windows.get(unit, (0, 0))
    of_unit = [numbers for (minute, _), numbers in books.minutes.items() if unit.contains(minute)]
    return sum(accepted for accepted, _ in of_unit), sum(again for _, again in of_unit)


def _different_minutes(
    unit: Window, books: IngestedCounts, counted: Minutes, duplicates: Minutes
) -> list[str]:
    """The minutes and clusters in which both sides differ, in words."""
    expected = {key: sum(numbers) for key, numbers in books.minutes.items() if unit.contains(key[0])}
    found = Counter({key: n for key, n in counted.items() if unit.contains(key[0])})
    found.update({key: n for key, n in duplicates.items() if unit.contains(key[0])})
    return [
        f"{minute:%H:%M} {cluster}: {expected.get((minute, cluster), 0)} against {found[minute, cluster]}"
        for minute, cluster in sorted({*expected, *found})
        if expected.get((minute, cluster), 0) != found[minute, cluster]
    ]


def _in_words(audit: Audit, places: list[str]) -> str:
    """One line: both totals, and where they differ."""
    told = (
        f"ingestion accepted {audit.expected} events of '{audit.kind}', the raw store gave {audit.found} "
        f"({audit.duplicates} of them duplicates)"
    )
    if not places:
        return told
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"{told}; in {', '.join(places[:_NAMED])}{more} (UTC)"
