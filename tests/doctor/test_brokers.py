"""What `flyback doctor` says of the brokers' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import BrokerMetadata, ClusterMetadata

from flyback.doctor import brokers
from flyback.doctor.brokers import Kafka
from flyback.settings import Settings, load


def connected(settings: Settings) -> Kafka:
    check, kafka = brokers.connect(settings)
    assert kafka is not None, check
    return kafka


def of_brokers(*numbers: int) -> ClusterMetadata:
    metadata = ClusterMetadata()
    metadata.brokers = {number: BrokerMetadata() for number in numbers}
    return metadata


def test_security_settings_that_no_client_can_use_are_told(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    check, kafka = brokers.connect(load(security_protocol="SSL", ssl_ca_location=nothing))
    assert kafka is None
    assert check.verdict == "failed"
    assert "ssl.ca.location failed" in check.found
    assert "KAFKA_SSL_CA_LOCATION" in str(check.mend)


def test_settings_of_ours_that_the_brokers_refuse_are_told(kafka_bootstrap: str) -> None:
    settings = load(
        bootstrap_servers=kafka_bootstrap,
        session_timeout="31m",  # Kafka allows half an hour
        transaction_timeout="16m",  # a quarter
        max_event_bytes=60_000_000,  # 100 MiB in a request
    )
    found = {check.name: check for check in brokers.settings_fit(settings, connected(settings))}
    assert {name: found[name].verdict for name in ("transactions", "sessions", "request size")} == {
        "transactions": "failed",
        "sessions": "failed",
        "request size": "failed",
    }
    assert {found[name].verdict for name in ("new topics", "internal topics")} == {"ok"}
    assert "FLYBACK_TRANSACTION_TIMEOUT=900000ms" in str(found["transactions"].mend)
    assert "FLYBACK_SESSION_TIMEOUT=1800000ms" in str(found["sessions"].mend)
    assert "socket.request.max.bytes=120196608" in str(found["request size"].mend)


@pytest.mark.parametrize(
    ("check", "option", "value", "verdict", "says"),
    [
        (brokers._transactions, "transaction.max.timeout.ms", "5000", "failed", "FLYBACK_TRANSACTION_TIMEOUT=5000ms"),
        (
            brokers._transactions,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "10000",
            "warning",
            "wait up to 20000 ms",
        ),
        (brokers._sessions, "group.min.session.timeout.ms", "30000", "failed", "FLYBACK_SESSION_TIMEOUT=30000ms"),
        (brokers._requests, "socket.request.max.bytes", "1000000", "failed", "socket.request.max.bytes=2196608"),
        (brokers._new_topics, "auto.create.topics.enable", "true", "warning", "mistyped FLYBACK_TOPIC_PREFIX"),
        (
            brokers._internal_topics,
            "offsets.topic.replication.factor",
            "1",
            "warning",
            "offsets.topic.replication.factor=1 though there are 3 brokers",
        ),
    ],
)
def test_what_a_broker_is_set_to_is_judged(check: Any, option: str, value: str, verdict: str, says: str) -> None:
    settings = load()
    nobody: Any = None  # is asked
    kafka = Kafka(nobody, of_brokers(1, 2, 3))
    (found,) = check("name", settings, kafka, "1", {option: value})
    assert found.verdict == verdict
    assert says in found.found + found.mend


def test_settings_that_the_broker_does_not_tell_are_skipped(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "SECONDS", 1.0)
    settings = load(bootstrap_servers=kafka_bootstrap)
    no_such = Kafka(connected(settings).admin, of_brokers(12_345))
    found = list(brokers.settings_fit(settings, no_such))
    assert {check.verdict for check in found} == {"skipped"}
    assert len(found) == 5
