"""Three brokers: what was acknowledged outlives the leader that acknowledged it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flyback import history
from flyback.local.java import MissingTool
from flyback.settings import load
from tests import brokers
from tests.chaos.cluster import Cluster
from tests.conftest import ENVIRONMENT

TOPIC = "raw"
MESSAGES = 2_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    try:
        running.start()
    except MissingTool as missing:
        brokers.not_available(ENVIRONMENT, f"no Kafka to test on: {missing}")
    try:
        yield running
    finally:
        running.stop()


def test_nothing_acknowledged_is_lost_with_the_leader_which_comes_back_in_sync(cluster: Cluster) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(TOPIC, 1, 3)])[TOPIC].result(60)
    acknowledged: dict[int, bytes] = {}

    def done(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        acknowledged[int(message.offset() or 0)] = bytes(message.value() or b"")

    cluster.until_in_sync()
    leader = cluster.leader(TOPIC, 0)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "log_level": 0, "enable.idempotence": True})
    for i in range(MESSAGES):
        producer.produce(TOPIC, str(i).encode(), on_delivery=done)
        if i == MESSAGES // 2:
            producer.poll(1.0)  # some are acknowledged, and some under way
            leader.kill()
    assert producer.flush(60) == 0
    assert cluster.leader(TOPIC, 0) is not leader

    leader.start()
    cluster.until_in_sync()
    settings = load(bootstrap_servers=cluster.bootstrap)
    stored = {int(m.offset() or 0): bytes(m.value() or b"") for m in history.read(settings, [TOPIC])}
    assert len(acknowledged) == MESSAGES
    assert stored == acknowledged
