"""Creates the catalogue's topics on the first cluster, those that are missing."""

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.clusters import load_clusters
from metrics_platform.local.servers.kafka import create_topics
from metrics_platform.settings import Settings

settings = Settings.from_environment()
topics = [topic for kind in load_catalog(settings.catalog).kinds for topic in kind.topics]
created = create_topics(load_clusters(settings.clusters)[0].bootstrap_servers, topics)
print(f"topics created: {', '.join(created) or 'none, all were there'}")  # noqa: T201 - for the container's log
