"""When a broker counts as up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def answers_metadata(client_config: Mapping[str, str], timeout: float = 2.0) -> bool:
    """Whether a broker with this client configuration answers a metadata request within `timeout` seconds."""
    configuration: dict[str, Any] = {
        **client_config,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        # Refused connections are what we are waiting out: librdkafka would print each of them.
        "log_level": 0,
        "error_cb": lambda _: None,
    }
    try:
        return bool(AdminClient(configuration).list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False
