"""The installation that this process belongs to: settings, catalogue, clusters, raw store."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_platform.catalog.load import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.events.clusters import Cluster, ClustersError, load_clusters
from metrics_platform.events.raw_store import RawStore
from metrics_platform.settings import Settings
from metrics_platform.store.connection import Connection, connect


@dataclass(frozen=True)
class Platform:
    """Everything that runs need and that does not change while the process lives."""

    settings: Settings
    catalog: Catalog
    clusters: tuple[Cluster, ...]

    @property
    def raw_store(self) -> RawStore:
        """The raw events of this installation."""
        return RawStore(self.settings.raw_store)

    def connect(self) -> Connection:
        """A new connection to the metric store; the caller closes it."""
        return connect(self.settings.postgres)


def load_platform(settings: Settings) -> Platform:
    """Read the files that the settings name.

    Raises CatalogError or ClustersError when one of them has a mistake.
    """
    catalog = load_catalog(settings.catalog)
    clusters = load_clusters(settings.clusters)
    known = {cluster.name for cluster in clusters}
    for kind in catalog.kinds:
        for name in kind.clusters:
            if name not in known:
                raise ClustersError(
                    f"{settings.clusters}: has no cluster '{name}', which events '{kind.name}' name; "
                    f"there are {', '.join(sorted(known))}"
                )
    return Platform(settings, catalog, clusters)
