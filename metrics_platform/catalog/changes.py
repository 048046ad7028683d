"""Compares two catalogues: which metrics change their definition, and which parts of it."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_platform.catalog.model import Catalog, Metric


@dataclass(frozen=True)
class Difference:
    """One part of a metric's definition, before and after."""

    what: str  # the key in Metric.definition, such as "filter"
    old: str | None  # None if the old definition has no such part
    new: str | None  # None if the new definition has no such part


@dataclass(frozen=True)
class Change:
    """A metric whose definition differs between two catalogues."""

    old: Metric | None  # None if the metric is added
    new: Metric | None  # None if the metric is removed

    @property
    def metric(self) -> Metric:
        """The new metric, or the old one if the metric is removed."""
        metric = self.new or self.old
        assert metric is not None  # a change has at least one side
        return metric

    @property
    def word(self) -> str:
        """One word for the change: "new", "removed" or "changed"."""
        return "new" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def differences(self) -> list[Difference]:
        """The parts of the definition that differ, in the order of Metric.definition."""
        before = self.old.definition if self.old else {}
        after = self.new.definition if self.new else {}
        return [
            Difference(what, before.get(what), after.get(what))
            for what in {**after, **before}
            if before.get(what) != after.get(what)
        ]


def changes(old: Catalog, new: Catalog) -> list[Change]:
    """The metrics that the new catalogue adds, changes or removes.

    New and changed metrics come first, in the new catalogue's order; removed metrics come last.
    """
    before = {metric.name: metric for metric in old.metrics}
    after = {metric.name: metric for metric in new.metrics}
    pairs = [(before.get(name), after.get(name)) for name in {**after, **before}]
    return [
        Change(was, becomes)
        for was, becomes in pairs
        if was is None or becomes is None or was.version != becomes.version
    ]
