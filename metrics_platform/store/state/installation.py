"""The installation's identity, which ties the metric store to its raw store."""

from __future__ import annotations

from metrics_platform.store.connection import Connection, only


def installation_id(conn: Connection) -> str:
    """The identity of the metric store: made with it, and carried by each commit to its raw store."""
    return str(only(conn.execute("SELECT id FROM platform.installation"))[0])


def adopt(conn: Connection, installation: str) -> None:
    """Take over the identity that a raw store carries."""
    conn.execute("UPDATE platform.installation SET id = %s", (installation,))
