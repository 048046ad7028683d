"""Servers on loopback that receive what alarms send: a webhook's and a mail server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any

HOST = "127.0.0.1"


@dataclass
class Webhook:
    """What a webhook's server received; `answers` are the codes of its next answers, 200 when there are none.

    A code of 0 says nothing until `over` is set.
    """

    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/services/SECRET"

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Every alarm of every message: rule, subject, change."""
        return [
            (one["alarm"], one["subject"], one["change"]) for body in self.bodies for one in body["alarms"]
        ]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server that takes every POST."""
    received = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            code = received.answers.pop(0) if received.answers else 200
            if code == 0:
                received.over.wait(30)
                return
            if code == 200:
                received.bodies.append(json.loads(content))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with _served(ThreadingHTTPServer((HOST, 0), Handler)) as port:
        received.port = port
        yield received
        received.over.set()


@dataclass
class MailServer:
    """What a mail server received; it refuses the recipients in `refused`."""

    port: int = 0
    recipients: list[str] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # everything that clients said
    refused: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self.port}"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """A mail server without TLS that takes every mail."""
    received = MailServer()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            for line in self.rfile:
                words = line.decode().strip()
                received.words.append(words)
                verb, _, rest = words.partition(" ")
                if verb.upper() == "QUIT":
                    self._say("221 bye")
                    return
                self._answer(verb.upper(), rest)

        def _answer(self, verb: str, rest: str) -> None:
            match verb:
                case "RCPT":
                    address = rest.partition("<")[2].partition(">")[0]
                    known = address not in received.refused
                    received.recipients += [address] * known
                    self._say("250 ok" if known else "550 unknown")
                case "DATA":
                    self._say("354 go on")
                    content = b"".join(iter(self.rfile.readline, b".\r\n"))
                    received.mails.append(message_from_bytes(content))
                    self._say("250 ok")
                case _:
                    self._say("250 ok")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with _served(ThreadingTCPServer((HOST, 0), Handler)) as port:
        received.port = port
        yield received


@contextmanager
def _served(server: ThreadingTCPServer | ThreadingHTTPServer) -> Iterator[int]:
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
