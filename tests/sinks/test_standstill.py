"""A sink whose consumer gives nothing of what is there must not wait for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from flyback.errors import BrokerError
from flyback.local.process import free_port
from flyback.settings import Settings
from flyback.sinks.message import Place
from flyback.sinks.standstill import Standstill
from flyback.streams.topology import Topology

INTERVAL = 16.0  # seconds; a little more than between two looks


@pytest.fixture
def place(installation: Settings) -> Place:
    """With three messages."""
    topic = Topology(installation).topic_of("Example")
    producer = Producer(installation.kafka())
    for _ in range(3):
        producer.produce(topic, b"x", partition=1)
    assert producer.flush(60) == 0
    return topic, 1


@pytest.fixture
def look(installation: Settings, place: Place) -> Callable[..., None]:
    """Looks once more after some seconds, with the consumer at an offset."""
    passed = [0.0]
    standstill = Standstill(installation, lambda: passed[0])

    def look(at: int, seconds: float = INTERVAL, ran_dry: bool = True) -> None:
        passed[0] += seconds
        standstill.check(lambda: {(place[0], 0): 0, place: at}, ran_dry)

    return look


def test_a_consumer_that_does_not_move_though_there_is_more_ends_the_sink(
    look: Callable[..., None], place: Place
) -> None:
    look(1)
    with pytest.raises(BrokerError, match=rf"{place[0]}/1 at offset 1\. Start this sink again"):
        look(1)


def test_while_the_consumer_always_has_something_one_may_come_later(look: Callable[..., None]) -> None:
    for _ in range(4):
        look(1, ran_dry=False)
    look(1)
    with pytest.raises(BrokerError):
        look(1)


def test_one_that_moves_or_has_read_everything_may_go_on(look: Callable[..., None]) -> None:
    for at in (0, 1, 2, 3, 3, 3):
        look(at)


def test_nothing_is_asked_before_the_time_and_nothing_counts_after_a_long_wait_for_something_else(
    look: Callable[..., None],
) -> None:
    look(1)
    look(1, seconds=1.0)
    look(1, seconds=10 * INTERVAL)
    with pytest.raises(BrokerError):
        look(1)


def test_a_marker_at_the_end_of_the_log_is_nothing_to_be_read(
    look: Callable[..., None], place: Place, installation: Settings
) -> None:
    producer = Producer(installation.kafka() | {"transactional.id": f"{installation.topic_prefix}a service's"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(place[0], b"x", partition=1)
    assert producer.flush(60) == 0
    producer.abort_transaction(60)
    for _ in range(3):
        look(3)


def test_where_kafka_is_away_nobody_stands_still(installation: Settings, place: Place) -> None:
    passed = [0.0]
    away = installation.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"})
    standstill = Standstill(away, lambda: passed[0])
    for _ in range(2):
        passed[0] += INTERVAL
        standstill.check(lambda: {place: 1}, ran_dry=True)
