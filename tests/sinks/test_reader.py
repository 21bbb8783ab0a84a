"""What the sink asks Kafka, where a client of librdkafka is lost for good."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from flyback import settings
from flyback.errors import BrokerError
from flyback.sinks import reader


def test_a_client_that_found_no_broker_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lost its only broker may go on saying so for ever (librdkafka's issue 5301): ADR 12."""
    made: list[Any] = []

    class Lost:
        def __init__(self, config: dict[str, Any]) -> None:
            made.append(self)

        def list_topics(self, timeout: float) -> None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

        def poll(self, timeout: float) -> int:
            return 0

    monkeypatch.setattr(reader, "AdminClient", Lost)
    sources = reader.Sources(settings.load())
    for _ in range(2):
        with pytest.raises(BrokerError, match="no Kafka answers"):
            sources.describe(["flyback.predictions.v1"])
    assert len(made) == 2
