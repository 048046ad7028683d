"""Neither end of a connection waits for a peer that vanished."""

from __future__ import annotations

import socket

from metrics_platform.store.connection import connect

# Seconds and a number of probes for keepalives, milliseconds for the others.
SERVER = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_connection_check_interval": "10000",
    "idle_in_transaction_session_timeout": "120000",
    "lock_timeout": "60000",
}


def test_the_server_notices_within_about_a_minute_and_frees_the_locks(module_database: str) -> None:
    with connect(module_database) as conn:
        found = conn.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(SERVER),))
        assert dict(found.fetchall()) == SERVER


def test_so_does_the_client(module_database: str) -> None:
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    with connect(module_database) as conn, socket.socket(fileno=conn.fileno()) as mine:
        found = [mine.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        mine.detach()  # it is the connection's
    assert found == [30, 10, 3, 60_000]
