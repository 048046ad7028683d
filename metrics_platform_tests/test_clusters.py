"""The clusters file, and what the two Kafka clients are told."""

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from confluent_kafka import Consumer, KafkaException

from metrics_platform.clusters import Cluster, ClustersError, load_clusters
from metrics_platform.kafka_options import _PASSWORD_MODULES, _TOKEN_HANDLER, _TOKEN_MODULE, Untranslatable

Load = Callable[..., tuple[Cluster, ...]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a clusters file from its text, with an environment."""

    def load_text(text: str, **environment: str) -> tuple[Cluster, ...]:
        path = tmp_path / "clusters.yaml"
        path.write_text(text, "utf-8")
        return load_clusters(path, environment)

    return load_text


@pytest.fixture
def mistake(load: Load, tmp_path: Path) -> Callable[..., str]:
    """The one line that a bad file gets, without the file's name that opens it."""

    def mistake_of(text: str, **environment: str) -> str:
        with pytest.raises(ClustersError) as caught:
            load(text, **environment)
        message = str(caught.value)
        assert "\n" not in message
        return message.removeprefix(f"{tmp_path / 'clusters.yaml'}: ")

    return mistake_of


# A login, as librdkafka names it.
ANN = {"sasl.mechanism": "PLAIN", "sasl.username": "ann", "sasl.password": "secret"}


def secured(options: dict[str, str]) -> Cluster:
    return Cluster("far", "kafka.example:9093", options)


def java(cluster: Cluster) -> dict[str, str]:
    """What the Java client is told, beyond where the cluster is and how much to fetch."""
    plain = Cluster(cluster.name, cluster.bootstrap_servers).source_options()
    return {
        name.removeprefix("kafka."): value
        for name, value in cluster.source_options().items()
        if name not in plain
    }


def test_several_clusters_are_read_in_order(load: Load) -> None:
    found = load("""
        clusters:
          - name: berlin
            bootstrap_servers: "10.0.0.1:9092,10.0.0.2:9092"
          - name: oslo
            bootstrap_servers: 10.1.0.1:9092
            options: {client.id: metrics, socket.keepalive.enable: true, socket.timeout.ms: 5000}
            spark_options: {kafka.ignored: no, fetch.min.bytes: 1}
    """)
    assert [cluster.name for cluster in found] == ["berlin", "oslo"]
    assert found[0].client_options() == {
        "bootstrap.servers": "10.0.0.1:9092,10.0.0.2:9092",
        "socket.keepalive.enable": "true",
        "isolation.level": "read_committed",
    }
    assert found[1].client_options() == {
        "bootstrap.servers": "10.1.0.1:9092",
        "isolation.level": "read_committed",
        "client.id": "metrics",
        "socket.keepalive.enable": "true",
        "socket.timeout.ms": "5000",
    }
    told = found[1].source_options()
    assert told["kafka.bootstrap.servers"] == "10.1.0.1:9092"
    assert (told["kafka.client.id"], told["kafka.fetch.min.bytes"]) == ("metrics", "1")
    # What has no name in Java's client is not invented.
    assert "kafka.socket.timeout.ms" not in told


def test_an_open_cluster_needs_nothing() -> None:
    assert java(Cluster("local", "127.0.0.1:9092")) == {}


def test_a_name_and_password_become_a_login() -> None:
    assert java(secured({"security.protocol": "SASL_PLAINTEXT", **ANN})) == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="ann" password="secret";',
    }


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_scram_has_a_login_of_its_own(mechanism: str) -> None:
    told = java(secured({"sasl.mechanisms": mechanism, "sasl.username": "ann", "sasl.password": "x"}))
    assert told["sasl.mechanism"] == mechanism
    assert told["sasl.jaas.config"].startswith("org.apache.kafka.common.security.scram.ScramLoginModule ")


def test_quotes_and_backslashes_in_a_password_stay_inside_the_login() -> None:
    told = java(secured({"sasl.username": 'a"b', "sasl.password": r'\";x="y'}))
    assert told["sasl.jaas.config"].endswith(r'username="a\"b" password="\\\";x=\"y";')


def test_a_certificate_authority_is_trusted_by_both_clients() -> None:
    cluster = secured(
        {
            "security.protocol": "SSL",
            "ssl.ca.location": "/etc/ca.pem",
            "ssl.keystore.location": "/etc/me.p12",
            "ssl.keystore.password": "pw",
            "ssl.endpoint.identification.algorithm": "none",
            "enable.ssl.certificate.verification": "True",
        }
    )
    assert cluster.client_options()["ssl.ca.location"] == "/etc/ca.pem"
    assert java(cluster) == {
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/etc/ca.pem",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": "/etc/me.p12",
        "ssl.keystore.password": "pw",
        "ssl.endpoint.identification.algorithm": "",
    }


def test_spark_options_have_the_last_word() -> None:
    cluster = Cluster("far", "k:1", {"security.protocol": "SASL_SSL"}, {"security.protocol": "SSL"})
    assert java(cluster) == {"security.protocol": "SSL"}
    assert cluster.client_options()["security.protocol"] == "SASL_SSL"


PEM = {
    "certificate": "-----BEGIN CERTIFICATE-----\nMII\n",
    "key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII\n",
}


def test_a_certificate_and_its_key_are_read_from_their_files(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in PEM}
    for name, path in files.items():
        path.write_text(PEM[name])
    by_file = {f"ssl.{name}.location": str(path) for name, path in files.items()}
    as_text = {f"ssl.{name}.pem": text for name, text in PEM.items()}
    for options in (by_file, as_text):
        assert java(secured({**options, "ssl.key.password": "pw", "ssl.ca.pem": "CA"})) == {
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": "CA",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": PEM["certificate"],
            "ssl.keystore.key": PEM["key"],
            "ssl.key.password": "pw",
        }


KERBEROS = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "GSSAPI",
    "sasl.kerberos.service.name": "kafka",
    "sasl.kerberos.principal": "metrics@EXAMPLE.ORG",
}


def test_kerberos_logs_in_with_a_keytab_or_with_the_tickets_that_there_are() -> None:
    module = "com.sun.security.auth.module.Krb5LoginModule required"
    keytab = {
        "sasl.kerberos.keytab": "/etc/metrics.keytab",
        "sasl.kerberos.kinit.cmd": "kinit -k ...",
        "sasl.kerberos.min.time.before.relogin": "60000",
    }
    assert java(secured({**KERBEROS, **keytab})) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "GSSAPI",
        "sasl.kerberos.service.name": "kafka",
        "sasl.kerberos.min.time.before.relogin": "60000",
        "sasl.jaas.config": f'{module} useKeyTab="true" storeKey="true" keyTab="/etc/metrics.keytab" '
        'principal="metrics@EXAMPLE.ORG";',
    }
    assert java(secured(KERBEROS))["sasl.jaas.config"] == (
        f'{module} useTicketCache="true" principal="metrics@EXAMPLE.ORG";'
    )


def test_a_bearer_token_is_fetched_by_both_clients_from_the_same_place() -> None:
    url = "https://login.example.org/token"
    oidc = {
        "method": "oidc",
        "client.id": "metrics",
        "client.secret": 'a"b',
        "token.endpoint.url": url,
        "scope": "kafka",
        "extensions": "logicalCluster=lkc-1,identityPoolId=pool-2",
        "grant.type": "client_credentials",
    }
    options = {f"sasl.oauthbearer.{name}": value for name, value in oidc.items()}
    security = "org.apache.kafka.common.security.oauthbearer"
    assert java(secured({"sasl.mechanisms": "OAUTHBEARER", **options})) == {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.token.endpoint.url": url,
        "sasl.login.callback.handler.class": f"{security}.OAuthBearerLoginCallbackHandler",
        "sasl.jaas.config": f'{security}.OAuthBearerLoginModule required clientId="metrics" '
        r'clientSecret="a\"b" scope="kafka" '
        'extension_logicalCluster="lkc-1" extension_identityPoolId="pool-2";',
    }


def test_the_classes_that_log_in_are_in_the_java_client_that_spark_has(jars: Path) -> None:
    [client] = (jars / "spark").glob("kafka-clients-*.jar")
    with ZipFile(client) as archive:
        there = set(archive.namelist())
    for name in (*_PASSWORD_MODULES.values(), _TOKEN_MODULE, _TOKEN_HANDLER):
        assert f"{name.replace('.', '/')}.class" in there


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"ssl.cipher.suites": "ECDHE-RSA"}, "ssl.cipher.suites"),
        ({"ssl.crl.location": "/etc/crl.pem"}, "ssl.crl.location"),
        ({"enable.ssl.certificate.verification": "false"}, "enable.ssl.certificate.verification"),
        ({"ssl.key.pem": PEM["key"]}, "ssl.key.pem"),
        ({"ssl.certificate.pem": PEM["certificate"]}, "ssl.certificate.pem"),
        ({"ssl.ca.location": "/etc"}, "ssl.ca.location"),
        ({"ssl.ca.location": "probe"}, "ssl.ca.location"),
        ({"sasl.mechanism": "AWS_MSK_IAM"}, "sasl.mechanism"),
        ({**KERBEROS, "sasl.kerberos.kinit.cmd": "kinit"}, "sasl.kerberos.kinit.cmd"),
        ({**KERBEROS, "sasl.username": "ann"}, "sasl.username"),
        ({"sasl.mechanism": "PLAIN", "sasl.password": "alone"}, "sasl.password"),
        ({"sasl.mechanism": "OAUTHBEARER"}, "sasl.oauthbearer.method"),
        ({"bootstrap.servers": "elsewhere:9092"}, "bootstrap.servers"),
        ({"fetch.min.bytes": "7"}, "fetch.min.bytes"),
    ],
)
def test_what_cannot_be_translated_is_refused_unless_it_is_told_by_hand(
    options: dict[str, str], name: str, mistake: Callable[..., str], load: Load
) -> None:
    text = yaml.safe_dump({"clusters": [{"name": "a", "bootstrap_servers": "k:1", "options": options}]})
    message = mistake(text)
    assert message.startswith("cluster 1: the option '")
    assert message.endswith(
        f"the option '{name}' cannot be told to Spark's Kafka client; remove it, or add what Java is to be "
        f"told instead: spark_options: {{{name}: ...}}"
    )
    by_hand = dict.fromkeys(options, "as Java has it") | {name: "as Java has it"}
    [cluster] = load(
        yaml.safe_dump(
            {
                "clusters": [
                    {"name": "a", "bootstrap_servers": "k:1", "options": options, "spark_options": by_hand}
                ]
            }
        )
    )
    assert cluster.source_options()[f"kafka.{name}"] == "as Java has it"


def test_a_key_that_java_cannot_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = {"ssl.certificate.pem": PEM["certificate"], "ssl.key.pem": "-----BEGIN RSA PRIVATE KEY-----\n"}
    with pytest.raises(Untranslatable, match="openssl pkcs8 -topk8"):
        secured(old).source_options()
    gone = {"ssl.certificate.location": str(tmp_path / "gone.pem"), "ssl.key.pem": PEM["key"]}
    with pytest.raises(Untranslatable, match=r"'ssl.certificate.location': .*gone.pem cannot be read"):
        secured(gone).source_options()


def test_only_committed_records_are_read_whatever_an_option_says() -> None:
    asked = {"isolation.level": "read_uncommitted"}
    cluster = Cluster("far", "k:1", asked, asked)
    assert cluster.client_options()["isolation.level"] == "read_committed"
    assert cluster.source_options()["kafka.isolation.level"] == "read_committed"


def test_the_options_are_ones_that_librdkafka_knows() -> None:
    known = secured({"security.protocol": "SASL_PLAINTEXT", **ANN})
    Consumer({**known.client_options(), "group.id": "any"}).close()
    with pytest.raises(KafkaException):
        Consumer({**secured({"no.such.option": "1"}).client_options(), "group.id": "any"})


@pytest.mark.parametrize(
    "password", ["secret", "0012", 'a: b # "c" {d}', "back\\slash", "$HOME ${OTHER}", ""]
)
def test_a_password_comes_from_the_environment_as_it_is(load: Load, password: str) -> None:
    [cluster] = load(
        """
        # ${NOT_EVEN_SET} in a comment is nobody's business
        clusters:
          - name: far
            bootstrap_servers: ${HOST}:9092
            options:
              sasl.username: team-${TEAM}-${TEAM}
              sasl.password: ${PASSWORD}
            spark_options: {note: "${TEAM}"}
        """,
        HOST="kafka.example",
        TEAM="web",
        PASSWORD=password,
    )
    assert cluster.bootstrap_servers == "kafka.example:9092"
    assert cluster.options == {"sasl.username": "team-web-web", "sasl.password": password}
    assert cluster.spark_options == {"note": "web"}


ONE = "clusters: [{name: a, bootstrap_servers: 'k:1'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list 'clusters'; write at least one name and bootstrap_servers"),
        ("[]", "has no list 'clusters'; write at least one name and bootstrap_servers"),
        ("clusters: []", "has no list 'clusters'; write at least one name and bootstrap_servers"),
        ("clusters: {name: a}", "has no list 'clusters'; write at least one name and bootstrap_servers"),
        ("clusters: [local]", "cluster 1 is no mapping; write name: and bootstrap_servers:"),
        ("clusters: [{name: a}]", "cluster 1 lacks 'bootstrap_servers'; write bootstrap_servers: ..."),
        ("clusters: [{bootstrap_servers: 'k:1'}]", "cluster 1 lacks 'name'; write name: ..."),
        (f"{ONE}}}, {{name: 7, bootstrap_servers: 'k:1'}}]", "cluster 2 lacks 'name'; write name: ..."),
        (f"{ONE}, servers: x}}]", "cluster 1 has the unknown key 'servers'; remove it"),
        (f"{ONE}, options: [a]}}]", "cluster 1: 'options' is no mapping; write options: {name: value}"),
        (f"{ONE}, options: {{sasl.password: }}}}]",
         "cluster 1: the option 'sasl.password' is no text; write sasl.password: value"),
        (f"{ONE}, options: {{sasl.password: '${{PASSWORD}}'}}}}]",
         "cluster 1: the environment variable PASSWORD is not set; export it"),
        (f"{ONE}}}, {{name: a, bootstrap_servers: 'k:2'}}]",
         "two clusters have the same name; give each its own"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(mistake: Callable[..., str], text: str, message: str) -> None:
    assert mistake(text) == message


def test_what_is_no_yaml_is_said_with_its_place(mistake: Callable[..., str]) -> None:
    message = mistake(f"{ONE}, options: {{sasl.password: ${{PASSWORD}}}}}}]")
    assert message.startswith("is no YAML: while parsing a flow ")
    assert "line 1" in message
    assert message.endswith('inside { } write "${NAME}" with quotes')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ClustersError, match=r"gone\.yaml: cannot be read \(No such file or directory\); write a list"
    ):
        load_clusters(tmp_path / "gone.yaml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clusters.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClustersError, match="is no YAML"):
        load_clusters(path, {})
