"""A refused login is told in our own words, and not three times a second."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from flyback.login import Login
from flyback.settings import load

REFUSED = KafkaError(
    KafkaError._AUTHENTICATION,
    "sasl_ssl://kafka:9093/bootstrap: SASL authentication error (after 308ms in state AUTH_REQ)",
)


def test_a_refused_login_names_the_variables_to_look_at() -> None:
    login = Login(load(bootstrap_servers="kafka:9093"))
    login(REFUSED)
    assert login.refused is not None
    assert login.refused.startswith("Kafka at kafka:9093 refuses our login (sasl_ssl://kafka:9093/bootstrap: SASL auth")
    assert "KAFKA_SASL_PASSWORD (or its _FILE)" in login.refused
    assert "308ms" not in login.refused


def test_a_certificate_that_is_not_trusted_names_the_files_variables() -> None:
    login = Login(load())
    login(KafkaError(KafkaError._SSL, "broker certificate could not be verified"))
    assert login.refused is not None
    assert "KAFKA_SSL_CA_LOCATION" in login.refused


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN])
def test_a_broker_that_is_down_is_no_refusal(code: int) -> None:
    login = Login(load())
    login(KafkaError(code))
    assert login.refused is None


def test_it_is_said_once_a_minute() -> None:
    now, said = [100.0], list[str]()
    login = Login(load(), said.append, lambda: now[0])
    for passed in (0.0, 0.3, 59.0, 1.0, 0.3):
        now[0] += passed
        login(REFUSED)
    assert len(said) == 2
