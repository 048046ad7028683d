"""The ports that a stack listens on, all on loopback."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from metrics_platform.errors import StackError

HOST = "127.0.0.1"

OPTIONS = {
    "webserver": "--port",
    "kafka": "--kafka-port",
    "postgres": "--postgres-port",
    "code_server": "--code-port",
}


@dataclass(frozen=True)
class Ports:
    """One port for each server that a person or another process connects to."""

    webserver: int = 3000
    kafka: int = 9092
    postgres: int = 5433  # a PostgreSQL of the system keeps 5432
    code_server: int = 4266

    @staticmethod
    def free() -> Ports:
        """Four ports that nobody listens on."""
        return Ports(*free_ports(len(OPTIONS)))

    def check(self) -> None:
        """Raises StackError naming the first port that is given twice or in use, and its option."""
        seen: dict[int, str] = {}
        for server, port in asdict(self).items():
            if port in seen:
                raise StackError(
                    f"port {port} is given to {seen[port]} and {server}; change {OPTIONS[server]}"
                )
            seen[port] = server
            problem = _problem(port)
            if problem:
                raise StackError(
                    f"port {port} for the {server.replace('_', ' ')} {problem}; "
                    f"choose another with {OPTIONS[server]}, or --free-ports"
                )


def free_ports(count: int) -> list[int]:
    """Ports, all different, that nobody listens on at this moment."""
    with ExitStack() as sockets:
        held = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for held_socket in held:
            held_socket.bind((HOST, 0))
        return [held_socket.getsockname()[1] for held_socket in held]


def listens(port: int) -> bool:
    """Whether somebody accepts connections at the port."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _problem(port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return None
