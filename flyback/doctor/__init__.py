"""What is wrong with an installation, and how to mend it. Nothing is changed, and nothing is written to Kafka."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import KafkaException

from flyback.doctor import brokers, lake, machine, registry, state, topics
from flyback.doctor.check import Check, skipped
from flyback.errors import BrokerError, FlybackError
from flyback.settings import Settings
from flyback.streams.clients import Cluster, KafkaClients
from flyback.streams.topology import Topology

__all__ = ["Check", "examine"]


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, one by one as it is done: brokers, topics, registry, offsets, state, lake, this machine."""
    reached, kafka = brokers.connect(settings)
    yield reached
    cluster: Cluster | None = None
    standing: state.Standing | None = None
    if kafka is None:
        for name in ("topics", "offsets", "clock"):
            yield skipped(name, "Kafka does not answer")
    else:
        yield from brokers.settings_fit(settings, kafka)
        yield from topics.as_the_topology_says(settings, kafka)
        yield topics.replicated(settings, kafka)
        try:
            cluster = _described(settings, kafka)
            standing = state.standing(settings, cluster)
            yield state.offsets(settings, standing)
        except FlybackError as error:
            yield skipped("offsets", str(error))
        yield machine.clock(settings)
    yield from registry.examine(settings)
    yield from state.folder(settings, standing)
    yield from lake.examine(settings, cluster)
    yield machine.open_files()


def _described(settings: Settings, kafka: brokers.Kafka) -> Cluster:
    """Those of our topics that are there. Raises BrokerError."""
    there = [name for name in Topology(settings).names if name in kafka.metadata.topics]
    try:
        return KafkaClients(settings).describe(there)
    except KafkaException as error:
        raise BrokerError(error.args[0].str()) from error
