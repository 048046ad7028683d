"""Translates librdkafka's options for a Kafka cluster into those of the Java client.

What decides how the cluster is reached, who the platform is there, and whom it trusts is translated or
refused, never dropped. Options of librdkafka's own sockets, caches and log say nothing to Java. A client's
certificate and its key are told as they are, because Java wants both in one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metrics_platform.errors import PlatformError

# The same name and the same values in both clients.
_ALIKE = (
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "group.id",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.ms",
    "security.protocol",
)
# Beginnings of the names of what says nothing to Java. The isolation level is nobody's choice.
_SAYS_NOTHING = (
    "api.version.",
    "broker.",
    "debug",
    "isolation.level",
    "log.",
    "log_level",
    "message.",
    "receive.message.",
    "socket.",
    "statistics.",
    "topic.metadata.",
)
# What librdkafka does by default may be said and needs no translation.
_DEFAULTS = {
    "enable.sasl.oauthbearer.unsecure.jwt": "false",
    "enable.ssl.certificate.verification": "true",
    "sasl.oauthbearer.grant.type": "client_credentials",
}
_SECURITY = "org.apache.kafka.common.security"
_PASSWORD_MODULES = {
    "PLAIN": f"{_SECURITY}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SECURITY}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SECURITY}.scram.ScramLoginModule",
}
_KERBEROS_MODULE = "com.sun.security.auth.module.Krb5LoginModule"
_TOKEN_MODULE = f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule"
_TOKEN_HANDLER = f"{_SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler"


class Untranslatable(PlatformError):
    """An option that Spark's Kafka client cannot be told. The message names it and says what to do."""


def java_options(options: Mapping[str, str], by_hand: Mapping[str, str]) -> dict[str, str]:
    """What Java is told for librdkafka's options, by Java's names.

    Raises Untranslatable for an option that has no translation, unless one of its name is told `by_hand`.
    """
    left = {name: value for name, value in options.items() if _DEFAULTS.get(name) != value.lower()}
    java = {name: left.pop(name) for name in _ALIKE if name in left}
    for translate in (_login, _trust, _certificate, _host_names):
        java |= translate(left)
    for name in sorted(left.keys() - by_hand.keys()):
        if not name.startswith(_SAYS_NOTHING):
            raise Untranslatable(
                f"the option '{name}' cannot be told to Spark's Kafka client; remove it, or add what Java is "
                f"to be told instead: spark_options: {{{name}: ...}}"
            )
    return java


# Each of the following takes the options that it translates out of `left`.


def _login(left: dict[str, str]) -> dict[str, str]:
    """Who the platform is, by SASL."""
    found = [left.pop(name) for name in ("sasl.mechanism", "sasl.mechanisms") if name in left]
    mechanism = found[0] if found else "PLAIN" if "sasl.username" in left else None
    java = {"sasl.mechanism": mechanism} if found and mechanism else {}
    if mechanism in _PASSWORD_MODULES and "sasl.username" in left:
        user = {"username": left.pop("sasl.username"), "password": left.pop("sasl.password", "")}
        java["sasl.jaas.config"] = _jaas(_PASSWORD_MODULES[mechanism], user)
    elif mechanism == "GSSAPI":
        java |= _kerberos(left)
    elif mechanism == "OAUTHBEARER":
        java |= _token(left)
    elif mechanism and mechanism not in _PASSWORD_MODULES:
        left["sasl.mechanism"] = mechanism
    return java


def _kerberos(left: dict[str, str]) -> dict[str, str]:
    """A keytab, with which Java logs in by itself, or the tickets that somebody else fetches."""
    alike = ("sasl.kerberos.service.name", "sasl.kerberos.min.time.before.relogin")
    java = {name: left.pop(name) for name in alike if name in left}
    login = {"useTicketCache": "true"}
    if "sasl.kerberos.keytab" in left:
        left.pop("sasl.kerberos.kinit.cmd", None)
        login = {"useKeyTab": "true", "storeKey": "true", "keyTab": left.pop("sasl.kerberos.keytab")}
    if "sasl.kerberos.principal" in left:
        login["principal"] = left.pop("sasl.kerberos.principal")
    return {**java, "sasl.jaas.config": _jaas(_KERBEROS_MODULE, login)}


def _token(left: dict[str, str]) -> dict[str, str]:
    """A token that both clients fetch from the same place, by OpenID Connect."""
    method = left.pop("sasl.oauthbearer.method", "default")
    if method.lower() != "oidc":
        left["sasl.oauthbearer.method"] = method
        return {}
    names = {"client.id": "clientId", "client.secret": "clientSecret", "scope": "scope"}
    login = {
        java: left.pop(f"sasl.oauthbearer.{name}")
        for name, java in names.items()
        if f"sasl.oauthbearer.{name}" in left
    }
    for extension in filter(None, left.pop("sasl.oauthbearer.extensions", "").split(",")):
        name, _, value = extension.strip().partition("=")
        login[f"extension_{name}"] = value
    url = "sasl.oauthbearer.token.endpoint.url"
    return {
        **({url: left.pop(url)} if url in left else {}),
        "sasl.login.callback.handler.class": _TOKEN_HANDLER,
        "sasl.jaas.config": _jaas(_TOKEN_MODULE, login),
    }


def _trust(left: dict[str, str]) -> dict[str, str]:
    """Whose certificates are trusted."""
    location = left.get("ssl.ca.location")
    if location is not None and location != "probe" and not Path(location).is_dir():
        return {"ssl.truststore.type": "PEM", "ssl.truststore.location": left.pop("ssl.ca.location")}
    if location is None and "ssl.ca.pem" in left:
        return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": left.pop("ssl.ca.pem")}
    return {}


def _certificate(left: dict[str, str]) -> dict[str, str]:
    """Who the platform is, by a certificate: in a PKCS#12 file, or as PEM."""
    if "ssl.keystore.location" in left:
        java = {"ssl.keystore.type": "PKCS12", "ssl.keystore.location": left.pop("ssl.keystore.location")}
        if "ssl.keystore.password" in left:
            java["ssl.keystore.password"] = left.pop("ssl.keystore.password")
        return java
    certificate = _pem(left, "ssl.certificate")
    key = _pem(left, "ssl.key")
    if certificate is None or key is None:
        return {}
    if "PRIVATE KEY-----" in key and "BEGIN PRIVATE KEY" not in key and "BEGIN ENCRYPTED" not in key:
        raise Untranslatable(
            "the option 'ssl.key.location' or 'ssl.key.pem' has a private key that Java cannot read; convert "
            "it: openssl pkcs8 -topk8 -in old.pem -out new.pem"
        )
    java = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": certificate,
        "ssl.keystore.key": key,
    }
    for name in ("ssl.certificate.location", "ssl.certificate.pem", "ssl.key.location", "ssl.key.pem"):
        left.pop(name, None)
    if "ssl.key.password" in left:
        java["ssl.key.password"] = left.pop("ssl.key.password")
    return java


def _pem(left: Mapping[str, str], name: str) -> str | None:
    """The text of a certificate or key that an option names a file of, or has itself."""
    location = left.get(f"{name}.location")
    if location is None:
        return left.get(f"{name}.pem")
    try:
        return Path(location).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM"
        raise Untranslatable(
            f"the option '{name}.location': {location} cannot be read ({reason}); name a PEM file"
        ) from error


def _host_names(left: dict[str, str]) -> dict[str, str]:
    """Whether a broker's certificate must be of the host that was asked."""
    name = "ssl.endpoint.identification.algorithm"
    if left.get(name) not in ("none", "https"):
        return {}
    return {name: "" if left.pop(name) == "none" else "https"}


def _jaas(module: str, login: Mapping[str, str]) -> str:
    """A line of Java's login configuration."""
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in login.items()}
    return " ".join([module, "required", *(f'{name}="{value}"' for name, value in quoted.items())]) + ";"
