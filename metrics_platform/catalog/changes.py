"""What a changed catalogue changes: which metrics get another definition, and in what."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_platform.catalog.model import Catalog, Metric


@dataclass(frozen=True)
class Difference:
    """One part of a definition (see Metric.definition) before and after; None where there is none."""

    what: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Change:
    """A metric whose definition differs between two catalogues; None in the one that lacks it."""

    old: Metric | None
    new: Metric | None

    @property
    def metric(self) -> Metric:
        """The metric as it will be; as it was, if it goes."""
        found = self.new or self.old
        assert found is not None  # a change has at least one side
        return found

    @property
    def word(self) -> str:
        """new, removed or changed."""
        return "new" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def differences(self) -> list[Difference]:
        """The parts of the definition that differ, in their order."""
        before = self.old.definition if self.old else {}
        after = self.new.definition if self.new else {}
        return [
            Difference(what, before.get(what), after.get(what))
            for what in {**after, **before}
            if before.get(what) != after.get(what)
        ]


def changes(old: Catalog, new: Catalog) -> list[Change]:
    """The metrics whose numbers the new catalogue defines otherwise: in its order, then those that go."""
    before = {metric.name: metric for metric in old.metrics}
    after = {metric.name: metric for metric in new.metrics}
    pairs = [(before.get(name), after.get(name)) for name in {**after, **before}]
    return [
        Change(was, becomes)
        for was, becomes in pairs
        if was is None or becomes is None or was.version != becomes.version
    ]
