"""The clusters file, and what the two Kafka clients are told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException

from metrics_platform.clusters import Cluster, ClustersError, load_clusters

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
    }
    assert found[1].client_options() == {
        "bootstrap.servers": "10.1.0.1:9092",
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
