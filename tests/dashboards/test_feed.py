"""What the dashboard reads of the stream's counts, on a real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from flyback import settings as configuration
from flyback import topics
from flyback.dashboards.feed import Feed
from flyback.dashboards.questions import Question
from flyback.dashboards.rate_store import RateStore
from flyback.errors import BrokerError
from flyback.local.process import free_port
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog, hashed_id
from flyback.settings import Settings
from flyback.streams.rates import Counts
from flyback.streams.topology import Topology
from tests.waiting import eventually

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
HOUR = Question(NOW - timedelta(hours=1), NOW + timedelta(minutes=1))
SECONDS = 60.0

Say = Callable[..., None]


@pytest.fixture
def store() -> Iterator[RateStore]:
    found = RateStore()
    yield found
    found.close()


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    return configuration.load(
        bootstrap_servers=kafka_bootstrap, topic_prefix=f"{tmp_path.name}.", partitions=2, replication_factor=1
    )


@pytest.fixture
def say(settings: Settings) -> Say:
    """Writes counts as the engine does, in a transaction; or another value, or none of them."""
    producer = Producer(settings.kafka(**{"transactional.id": f"{settings.topic_prefix}counts"}))
    started = False

    def write(partition: int, predictions: int, value: bytes | None = None, commit: bool = True) -> None:
        nonlocal started
        if not started:
            producer.init_transactions()
            started = True
        cell = {"actor_kind": "MODEL", "actor": "m", "version": "1", "segment": "a"}
        event = {
            "partition": partition,
            "minute": int(NOW.timestamp()) * 1_000_000,
            **cell,
            **Counts(predictions=predictions)._asdict(),
            "derive_version": 1,
        }
        encoded = codec.encode("FailureRate", event, hashed_id(codec.bundled("FailureRate")))
        producer.begin_transaction()
        producer.produce(Topology(settings).topic_of("FailureRate"), value or encoded, b"key", partition)
        if commit:
            producer.commit_transaction()
        else:
            producer.flush()
            producer.abort_transaction()

    return write


def predictions(store: RateStore) -> int:
    [row] = store.ask(HOUR)
    return row.counts.predictions


def test_it_has_what_was_there_and_then_what_comes(settings: Settings, store: RateStore, say: Say) -> None:
    topics.create(settings)
    say(0, 3)
    say(1, 4)
    say(0, 5)
    heard: list[int] = []
    with Feed(settings, BundledCatalog(), store, lambda: heard.append(predictions(store))) as feed:
        feed.until_live(SECONDS)
        assert predictions(store) == 9
        assert (feed.following.read, feed.following.to_read, feed.following.error) == (3, 3, None)
        say(1, 6)
        eventually(lambda: predictions(store) == 11, "the newest count", SECONDS)
    assert heard[-1] == 11, "told after it was there"


def test_what_was_aborted_or_cannot_be_read_is_no_count(settings: Settings, store: RateStore, say: Say) -> None:
    topics.create(settings)
    say(0, 3)
    say(0, 100, commit=False)
    say(0, 0, value=b"nothing of ours")
    with Feed(settings, BundledCatalog(), store) as feed:
        feed.until_live(SECONDS)
    assert predictions(store) == 3
    assert feed.following.skipped == 1


def test_it_waits_for_a_topic_that_is_not_there_yet(settings: Settings, store: RateStore, say: Say) -> None:
    with Feed(settings, BundledCatalog(), store) as feed:
        eventually(lambda: feed.following.error, "it says why it waits", SECONDS)
        assert feed.following.phase == "waiting"
        assert "type `flyback topics create`" in str(feed.following.error)
        topics.create(settings)
        say(1, 8)
        feed.until_live(SECONDS)
        eventually(lambda: predictions(store) == 8, "the count", SECONDS)
        assert feed.following.error is None


def test_a_broker_that_does_not_answer_is_told_at_once(store: RateStore) -> None:
    nobody = configuration.load(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with Feed(nobody, BundledCatalog(), store) as feed, pytest.raises(BrokerError, match="no Kafka answers at"):
        eventually(lambda: feed.following.error, "it says why it waits", SECONDS)
        feed.until_live(0)
