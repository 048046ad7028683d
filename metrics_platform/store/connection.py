"""Connections to the metric store."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from metrics_platform.errors import PlatformError

# A row is a tuple of PostgreSQL values in the order of the query's columns.
Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS = 5  # a server on the same network answers in milliseconds, so one that needs longer is down

# A peer that vanished without a word (its host lost power, or the network to it) is noticed after about a
# minute, by this process and by the server: first IDLE seconds of silence, then PROBES without an answer.
_IDLE, _INTERVAL, _PROBES = 30, 10, 3
_UNANSWERED = (_IDLE + _INTERVAL * _PROBES) * 1000  # milliseconds that sent data may wait for its receipt

_CLIENT: dict[str, Any] = {
    "keepalives_idle": _IDLE,
    "keepalives_interval": _INTERVAL,
    "keepalives_count": _PROBES,
    "tcp_user_timeout": _UNANSWERED,
}

_SESSION = {
    "timezone": "UTC",  # times are exchanged in UTC
    "lock_timeout": "60s",  # no process waits for a lock for ever
    "idle_in_transaction_session_timeout": "120s",  # a client that hangs in a transaction frees its locks
    # Locks end with their session, so the server must notice, too, that a client vanished.
    "tcp_keepalives_idle": str(_IDLE),
    "tcp_keepalives_interval": str(_INTERVAL),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNANSWERED),
    "client_connection_check_interval": "10s",  # also while a statement of the client runs
    "jit": "off",  # queries are short, so compiling them costs more than it saves
}


class StoreUnavailable(PlatformError):
    """PostgreSQL cannot be reached. The message is one line that says where it should be and what to do."""


def connect(url: str, application: str = "metrics-platform") -> Connection:
    """Open a connection in autocommit mode, as every function of the store expects.

    `url` is a postgresql:// URL. Raises StoreUnavailable, whose message never shows a password.
    """
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    try:
        return psycopg.connect(
            url,
            autocommit=True,
            application_name=application,
            connect_timeout=CONNECT_SECONDS,
            options=options,
            **_CLIENT,
        )
    except psycopg.Error as error:
        raise StoreUnavailable(
            f"PostgreSQL at {database_place(url)} does not answer ({_first_line(error)}); "
            "start it, or correct METRICS_PLATFORM_POSTGRES"
        ) from error


def database_place(url: str) -> str:
    """The host:port/database of a URL, for messages."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "an unreadable URL"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def only(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The row of a query that always returns exactly one. Raises LookupError if it returns none."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a query that always has a row had none")
    return row


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip() if lines else type(error).__name__
