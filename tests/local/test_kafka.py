"""`KafkaBroker`: a real Kafka in one JVM that a test may stop, kill and restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from flyback.errors import BrokerError
from flyback.local import process
from flyback.local.java import MissingTool
from flyback.local.kafka import KafkaBroker, fetch_jars
from flyback.local.process import listens
from flyback.local.readiness import answers_metadata
from tests.local.round_trip import QUIET, first_message, send

StartKafka = Callable[..., KafkaBroker]


def test_a_message_comes_back(kafka_bootstrap: str, topic_prefix: str) -> None:
    client_config = {"bootstrap.servers": kafka_bootstrap}
    send(client_config, f"{topic_prefix}hello", b"world")
    assert first_message(client_config, f"{topic_prefix}hello") == b"world"


@pytest.mark.parametrize("end", [KafkaBroker.stop, KafkaBroker.kill], ids=["stop", "kill"])
def test_acknowledged_data_survive_a_restart_on_the_same_port(
    kafka_broker: KafkaBroker, end: Callable[[KafkaBroker], None]
) -> None:
    send(kafka_broker.client_config, "hello", b"world")
    bootstrap = kafka_broker.bootstrap
    end(kafka_broker)
    assert not kafka_broker.running
    assert not listens(kafka_broker.port)
    assert not [child for child in process.running() if str(kafka_broker.folder) in " ".join(child.command)]
    kafka_broker.restart()
    assert kafka_broker.bootstrap == bootstrap
    assert first_message(kafka_broker.client_config, "hello") == b"world"


def test_two_brokers_run_side_by_side_and_do_not_see_each_other(
    kafka_broker: KafkaBroker, kafka_bootstrap: str, topic_prefix: str
) -> None:
    send(kafka_broker.client_config, f"{topic_prefix}only-here", b"world")
    topics = AdminClient({"bootstrap.servers": kafka_bootstrap}).list_topics(timeout=20).topics
    assert f"{topic_prefix}only-here" not in topics


def test_with_scram_the_password_opens_and_nothing_else_does(start_kafka: StartKafka) -> None:
    broker = start_kafka(sasl_scram=("ann", "right-password"))
    send(broker.client_config, "hello", b"world")
    assert first_message(broker.client_config, "hello") == b"world"

    refusals: list[KafkaError] = []
    wrong: dict[str, Any] = {**broker.client_config, **QUIET, "sasl.password": "wrong-password"}
    wrong["error_cb"] = refusals.append
    admin = AdminClient(wrong)
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=2)
    admin.poll(1)
    assert KafkaError._AUTHENTICATION in {refusal.code() for refusal in refusals}
    assert not answers_metadata({"bootstrap.servers": broker.bootstrap}, timeout=1)


def test_a_password_that_the_storage_tool_would_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="letters, digits"):
        KafkaBroker(tmp_path, sasl_scram=("ann", "a,b"))


def test_properties_override_ours_and_the_others_stay(start_kafka: StartKafka) -> None:
    broker = start_kafka(properties={"message.max.bytes": "54321"})
    admin = AdminClient({**broker.client_config, **QUIET})
    resource = ConfigResource(ResourceType.BROKER, "1")
    described = admin.describe_configs([resource])[resource].result(20)
    assert described["message.max.bytes"].value == "54321"
    assert described["auto.create.topics.enable"].value == "false"
    assert described["transaction.abort.timed.out.transaction.cleanup.interval.ms"].value == "1000"


def test_a_taken_port_is_reported_and_nothing_is_left_running(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    second = KafkaBroker(tmp_path, port=kafka_broker.port)
    with pytest.raises(BrokerError, match=f"port {kafka_broker.port} of 127.0.0.1 is taken"):
        second.start()
    assert not second.running


def test_a_property_that_kafka_refuses_is_reported_in_its_own_words(start_kafka: StartKafka) -> None:
    with pytest.raises(BrokerError, match=r"(?s)num.io.threads.*--bootstrap"):
        start_kafka(properties={"num.io.threads": "none"})


def test_without_java_the_error_says_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.local.java._candidates", lambda: iter(()))
    with pytest.raises(MissingTool, match=r"Java 17 or newer is needed.*--broker embedded.*--bootstrap"):
        KafkaBroker(tmp_path).start()


def test_without_maven_the_error_says_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingTool, match=r"Maven.*--broker embedded.*--bootstrap"):
        fetch_jars()
