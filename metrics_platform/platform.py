"""Loads the installation that this process belongs to: settings, catalogue, clusters, raw store."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.clusters import Cluster, ClustersError, load_clusters
from metrics_platform.events.raw_store import RawStore
from metrics_platform.settings import PREFIX, Settings
from metrics_platform.store.connection import Connection, connect

_COPY = "metrics-platform-catalogue-"


@dataclass(frozen=True)
class Platform:
    """Everything that runs need and that does not change while the process runs."""

    settings: Settings
    catalog: Catalog
    clusters: tuple[Cluster, ...]

    @property
    def raw_store(self) -> RawStore:
        """The raw events of this installation."""
        return RawStore(self.settings.raw_store)

    def connect(self) -> Connection:
        """A new connection to the metric store. The caller closes it."""
        return connect(self.settings.postgres)


def load_platform(settings: Settings) -> Platform:
    """Read the catalogue and the clusters file that the settings name.

    Raises CatalogError or ClustersError if one of them has a mistake.
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


def load_for_runs(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> Platform:
    """Load the platform in a code server, so that the runs that it starts load the same catalogue.

    The catalogue is copied, and `environment`, which runs inherit, names the copy. Otherwise, if the file
    were edited in place, runs would migrate the store to the new catalogue and the code server back to the
    old one. Raises as `load_platform` does.
    """
    loaded = load_platform(settings)  # before the copy, so that errors name the original file
    if settings.catalog.parent.name.startswith(_COPY):
        return loaded  # this process is a run, and its catalogue is the copy already
    folder = tempfile.mkdtemp(prefix=_COPY)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = shutil.copyfile(settings.catalog, Path(folder) / settings.catalog.name)
    environment[PREFIX + "CATALOG"] = str(copy)
    # The copy is loaded again, because the file may have changed since it was loaded.
    return load_platform(replace(settings, catalog=copy))
