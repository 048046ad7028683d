"""Channels: time-outs, refusals, settings that cannot work, and no secret in any message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metrics_platform.local.ports import free_ports
from metrics_platform.monitoring.alarms import channels as module
from metrics_platform.monitoring.alarms.channels import Undeliverable, channels
from metrics_platform.settings import AlarmSettings, Settings, SettingsError
from metrics_platform.store.state.alarm_deliveries import Delivery
from metrics_platform.store.state.alarms import Alarm, Change, Severity
from metrics_platform_tests.store.shop import NOW
from metrics_platform_tests.support.receivers import MailServer, Webhook

ALARM = Alarm("disk_full", "Dagster", Severity.ERROR, "97 % full\nBcc: eve@example.org", "df -h", NOW, NOW)
TOLD = Delivery("webhook", Change.RAISED, ALARM, Severity.ERROR, ALARM.message, NOW)
MAIL = AlarmSettings(smtp="smtp://127.0.0.1:1", recipients=("ops@example.org", "eve@example.org"))


def sent(settings: AlarmSettings) -> None:
    [channel] = channels(settings, None)
    channel.send([TOLD])


def refusal(settings: AlarmSettings) -> str:
    with pytest.raises(Undeliverable) as error:
        sent(settings)
    assert "SECRET" not in f"{error.value!r} {error.value.__cause__!r}"
    return str(error.value)


def test_a_webhook_that_says_nothing_is_not_waited_for(
    hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    hook.answers[:] = [0]
    assert refusal(AlarmSettings(webhook=hook.url)) == (
        "the webhook's server does not answer (no answer within 0.2 s)"
    )


@pytest.mark.parametrize("code", [302, 403, 500])
def test_an_answer_other_than_yes_is_an_error(code: int, hook: Webhook) -> None:
    hook.answers[:] = [code]
    assert refusal(AlarmSettings(webhook=hook.url)) == f"the webhook's server answered {code}"


def test_servers_that_are_away_are_named_without_their_addresses() -> None:
    [port] = free_ports(1)
    assert "Connection refused" in refusal(AlarmSettings(webhook=f"http://127.0.0.1:{port}/SECRET"))
    assert "Connection refused" in refusal(replace(MAIL, smtp=f"smtp://ann:SECRET@127.0.0.1:{port}"))
    assert "InvalidURL" in refusal(AlarmSettings(webhook="http://127.0.0.1:SECRET/"))


def test_an_e_mail_goes_to_those_whom_the_server_knows(
    mail: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    mail.refused.add("eve@example.org")
    sent(replace(MAIL, smtp=mail.url, sender="platform@example.org"))
    assert mail.recipients == ["ops@example.org"]
    [letter] = mail.mails
    assert letter["From"] == "platform@example.org"
    assert letter["Bcc"] is None
    assert "the mail server refused the recipients eve@example.org" in caplog.text


def test_a_password_is_never_sent_in_the_open(mail: MailServer) -> None:
    said = refusal(replace(MAIL, smtp=f"smtp://ann:SECRET@127.0.0.1:{mail.port}"))
    assert "has no TLS" in said
    assert not [word for word in mail.words if "AUTH" in word]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WEBHOOK": "SECRET"}, "METRICS_PLATFORM_ALARM_WEBHOOK is no URL; write https://..."),
        ({"EMAIL": "a@b.c"}, "METRICS_PLATFORM_ALARM_EMAIL is set and METRICS_PLATFORM_ALARM_SMTP is not"),
        ({"SMTP": "smtp://SECRET"}, "METRICS_PLATFORM_ALARM_SMTP is set and METRICS_PLATFORM_ALARM_EMAIL"),
        ({"SMTP": "smtp://a:SECRET", "EMAIL": "a@b.c"}, "METRICS_PLATFORM_ALARM_SMTP is no URL"),
        ({"SMTP": "SECRET", "EMAIL": "a@b.c"}, "METRICS_PLATFORM_ALARM_SMTP is no URL of a mail server"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(variables: dict[str, str], said: str) -> None:
    needed = dict.fromkeys(("CLUSTERS", "POSTGRES", "RAW_STORE"), "")
    alarms = {f"ALARM_{name}": text for name, text in variables.items()}
    environment = {f"METRICS_PLATFORM_{name}": text for name, text in (needed | alarms).items()}
    with pytest.raises(SettingsError) as error:
        channels(Settings.from_environment(environment).alarms, None)
    assert str(error.value).startswith(said)
    assert "SECRET" not in str(error.value)


def test_no_channel_is_needed_and_settings_show_no_secret() -> None:
    assert channels(AlarmSettings(), None) == ()
    assert "SECRET" not in repr(AlarmSettings(webhook="https://example.org/SECRET", smtp="smtp://a:SECRET@b"))
