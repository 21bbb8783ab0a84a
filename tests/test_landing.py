"""Waiting for what never comes ends with a sentence that says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyback import Client, human, model, topics
from flyback.errors import FlybackError
from flyback.landing import Stalled, wait_until_landed
from flyback.settings import Settings, load


@pytest.fixture
def one_event(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    settings = load(
        bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, group=topic_prefix, lake=str(tmp_path)
    )
    topics.create(settings)
    with Client(settings) as client:
        client.predict(task_id="t", actor=model("m", "1"), input="x", output="y")
        client.confirm(task_id="t", prediction_id="p", author=human("ann"))
    return settings


def ignore(*_: object) -> None:
    pass


def test_without_a_worker_it_says_that_nothing_is_joined(one_event: Settings) -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))

    with pytest.raises(Stalled, match=rf"0 of 2 messages are joined.*group {one_event.group} running"):
        wait_until_landed(one_event, progress, ignore, stall_seconds=0.5)
    assert set(seen) == {("joined", 0, 2)}


def test_a_process_that_ended_is_noticed_while_waiting(one_event: Settings) -> None:
    def check() -> None:
        raise FlybackError("the worker ended")

    with pytest.raises(FlybackError, match="the worker ended"):
        wait_until_landed(one_event, ignore, check)


def test_an_empty_history_has_landed_at_once(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, group=topic_prefix, lake=str(tmp_path)
    )
    topics.create(settings)
    wait_until_landed(settings, ignore, ignore)
