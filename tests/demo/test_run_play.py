"""The demo's players against the SDK's bounded buffer, and against a Kafka that is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from flyback import history, topics
from flyback.demo import play
from flyback.demo.corpus import Text
from flyback.demo.play import Player
from flyback.demo.workload import Workload, first
from flyback.errors import BrokerError
from flyback.settings import load
from flyback.streams.topology import Topology


def neutral(_: str) -> float:
    return 0.0


def workload(texts: list[Text], span: timedelta = timedelta(hours=6)) -> Workload:
    return Workload(first(texts, 100), seed=1, now=datetime.now(UTC), span=span, score=neutral)


def test_a_full_buffer_is_waited_for_and_every_event_arrives(
    texts: list[Text], kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, buffer_events=20)
    topics.create(settings)
    events = workload(texts)
    reported: list[int] = []
    with Player(settings, reported.append) as player:
        player.play(events)
    assert player.sent == reported[-1] == len(events) > settings.buffer_events
    assert sum(history.next_offsets(settings, Topology(settings).raw).values()) == len(events)


def test_paced_events_are_sent_at_their_moment_and_no_more_after_stop(
    texts: list[Text], kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)
    topics.create(settings)
    stop = Event()
    later = Workload(
        first(texts, 100), seed=1, now=datetime.now(UTC) + timedelta(hours=1), span=timedelta(hours=2), score=neutral
    )
    due = sum(moment <= datetime.now(UTC) for moment, _ in later.paced())

    def stop_when_due(sent: int) -> None:
        if sent >= due:
            stop.set()

    with Player(settings, stop_when_due) as player:
        player.play_paced(later.paced(), stop)
    assert 0 < due <= player.sent < len(later)


def test_without_a_broker_it_says_how_many_events_could_not_be_sent(
    texts: list[Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "STALL_SECONDS", 0.5)
    events = workload(texts)
    with (
        pytest.raises(BrokerError, match=rf"{len(events)} of {len(events)} events could not be sent"),
        Player(load(bootstrap_servers="127.0.0.1:1"), lambda _: None) as player,
    ):
        player.play(events)
