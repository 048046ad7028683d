"""The channels by which people are told: a webhook and e-mail. The log is the watch's own.

Every send has a time-out, and no error shows a secret: of what servers answer, only numbers are told.
"""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from metrics_platform.errors import PlatformError
from metrics_platform.monitoring.alarms import notices
from metrics_platform.settings import PREFIX, AlarmSettings, SettingsError
from metrics_platform.store.state.alarm_deliveries import Delivery

SECONDS = 5.0  # for each answer of a server

logger = logging.getLogger(__name__)


class Undeliverable(PlatformError):
    """A channel could not be told; the message is one line without secrets."""


class Channel(Protocol):
    """Whom alarms are sent to."""

    @property
    def name(self) -> str:
        """The channel's name."""
        ...

    def send(self, told: Sequence[Delivery]) -> None:
        """Send all of it in one message. Raises Undeliverable."""
        ...


def channels(settings: AlarmSettings, link: str | None) -> tuple[Channel, ...]:
    """The channels that the settings name; `link` is the address of Dagster's UI.

    Raises SettingsError for one that cannot work, without showing secrets.
    """
    found: list[Channel] = []
    if settings.webhook:
        if urlsplit(settings.webhook).scheme not in {"http", "https"}:
            raise SettingsError(f"{PREFIX}ALARM_WEBHOOK is no URL; write https://...")
        found.append(Webhook(settings.webhook, link))
    if settings.smtp or settings.recipients:
        found.append(_email(settings, link))
    return tuple(found)


def _email(settings: AlarmSettings, link: str | None) -> Email:
    if not settings.smtp:
        raise SettingsError(
            f"{PREFIX}ALARM_EMAIL is set and {PREFIX}ALARM_SMTP is not; write smtp://HOST:PORT"
        )
    if not settings.recipients:
        raise SettingsError(
            f"{PREFIX}ALARM_SMTP is set and {PREFIX}ALARM_EMAIL is not; write who gets the e-mails"
        )
    server = urlsplit(settings.smtp)
    if server.scheme not in {"smtp", "smtps"} or not server.hostname or not _has_usable_port(server):
        raise SettingsError(f"{PREFIX}ALARM_SMTP is no URL of a mail server; write smtp://HOST:PORT")
    return Email(server, settings.recipients, settings.sender or settings.recipients[0], link)


def _has_usable_port(server: SplitResult) -> bool:
    try:
        return server.port != 0
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and nobody be told: it is an error instead."""

    def redirect_request(self, *_arguments: object, **_more: object) -> None:
        return None


@dataclass(frozen=True)
class Webhook:
    """Posts a JSON object that Slack shows and programs read."""

    url: str = field(repr=False)
    link: str | None = None
    name: str = "webhook"

    def send(self, told: Sequence[Delivery]) -> None:
        """Post it. Raises Undeliverable."""
        content = json.dumps(notices.body(told, self.link)).encode()
        try:
            request = urllib.request.Request(self.url, content, {"Content-Type": "application/json"})  # noqa: S310  the operator's own URL
            urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise Undeliverable(f"the webhook's server answered {error.code}") from None
        except urllib.error.URLError as error:
            raise Undeliverable(f"the webhook's server does not answer ({_reason(error.reason)})") from None
        except OSError as error:
            raise Undeliverable(f"the webhook's server does not answer ({_reason(error)})") from None
        except (HTTPException, ValueError) as error:
            raise Undeliverable(f"the webhook could not be called ({type(error).__name__})") from None


@dataclass(frozen=True)
class Email:
    """Sends an e-mail, over TLS where the server has it."""

    server: SplitResult = field(repr=False)
    recipients: tuple[str, ...]
    sender: str
    link: str | None = None
    name: str = "e-mail"

    def send(self, told: Sequence[Delivery]) -> None:
        """Send it. Raises Undeliverable."""
        message = EmailMessage()
        message["Subject"] = " ".join(notices.subject_line(told).split())
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message.set_content(notices.text(told, self.link))
        try:
            with self._connected() as smtp:
                refused = smtp.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise Undeliverable(f"the mail server answered {error.smtp_code}") from None
        except (OSError, ValueError) as error:
            raise Undeliverable(f"the mail server could not be used ({_reason(error)})") from None
        if refused:
            logger.warning(f"the mail server refused the recipients {', '.join(sorted(refused))}")

    def _connected(self) -> smtplib.SMTP:
        host, port = self.server.hostname or "", self.server.port or 0
        context = ssl.create_default_context()
        if self.server.scheme == "smtps":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=context)
        else:
            smtp = smtplib.SMTP(host, port or 25, timeout=SECONDS)
        try:
            self._secure(smtp, context)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _secure(self, smtp: smtplib.SMTP, context: ssl.SSLContext) -> None:
        smtp.ehlo()
        encrypted = self.server.scheme == "smtps"
        if not encrypted and smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            encrypted = True
        if self.server.password:
            if not encrypted:
                raise Undeliverable(
                    "the mail server has no TLS, so that the password is not sent; use smtps://"
                )
            smtp.login(unquote(self.server.username or ""), unquote(self.server.password))


def _reason(error: object) -> str:
    """What went wrong, in words of this host and not of the server."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
