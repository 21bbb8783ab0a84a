"""A lake of its own and topics of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyback.settings import Settings, load
from flyback.streams.topology import Topology
from tests.sinks.kafka import Written, create_topics


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings of a fast sink on real Kafka, its topics made."""
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        lake=str(tmp_path / "lake"),
        commit_interval="200ms",
        maintenance_interval="0s",
        sink_http_port=0,
    )
    create_topics(found, Topology(found))
    return found


@pytest.fixture
def topology(settings: Settings) -> Topology:
    return Topology(settings)


@pytest.fixture
def written(settings: Settings, topology: Topology) -> Written:
    return Written(settings, topology)
