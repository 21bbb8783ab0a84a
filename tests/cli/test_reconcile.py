"""`flyback reconcile` as a person types it, against a lake that a worker and a sink have filled."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyback.errors import LakeError
from flyback.landing import wait_until_landed
from flyback.settings import Settings, load
from flyback.sinks.lake import lake
from flyback.streams.topology import Topology
from tests.cli.conftest import Flyback
from tests.sinks import kafka as sinks
from tests.strategies import correction, prediction
from tests.streams.on_kafka import OnKafka
from tests.streams.on_kafka import running as engine_running
from tests.streams.records import raw
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "reconcile.md").read_text(encoding="utf-8")


@pytest.fixture
def settings(own_topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Everybody's, with a join window of 100 ms on topics that keep their messages."""
    given = {
        "FLYBACK_GROUP": own_topics.topic_prefix,
        "FLYBACK_LAKE": str(tmp_path / "lake"),
        "FLYBACK_STATE_DIR": str(tmp_path / "state"),
        "FLYBACK_JOIN_WINDOW": "100ms",
        "FLYBACK_COMMIT_INTERVAL": "200ms",
        "FLYBACK_LOG_LEVEL": "error",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return load()


@contextmanager
def at_work(settings: Settings) -> Iterator[None]:
    """A stream and a sink, and one correction that came too late."""
    kafka = OnKafka(settings)
    kafka.send(raw("Prediction", prediction()))
    closed = time.time() + 0.2
    eventually(lambda: time.time() > closed, "the window is over")
    kafka.send(raw("Correction", correction()))
    with engine_running(settings), sinks.running(settings, Topology(settings)):
        wait_until_landed(settings, lambda *_: None, lambda: None)
        yield


def test_it_reports_writes_waits_for_the_lake_and_then_finds_nothing(flyback: Flyback, settings: Settings) -> None:
    with at_work(settings):
        dry = flyback("reconcile", "--dry-run")
        assert dry.code == 0, dry.err
        assert "nothing was written: run it without --dry-run" in dry.err
        row = dry.out.splitlines()[1].split()
        assert row == [f"{settings.topic_prefix}examples.v1", "1", "1", "0", "0", "0", "0", "0"]

        done = flyback("reconcile", "--wait", "--json")
        assert done.code == 0, done.err
        assert [(found["topic"], found["late"], found["written"]) for found in done.json if found["missing"]] == [
            (f"{settings.topic_prefix}examples.v1", 1, 1)
        ]
        with lake(settings.lake) as tables:
            assert tables.sql("SELECT correction_id FROM examples").fetchall() == [("c",)]

        for command in re.findall(r"^flyback (.*)$", PAGE, re.MULTILINE):
            again = flyback(*shlex.split(command))
            assert again.code == 0, again.err
            assert {line.split()[1] for line in again.out.splitlines()[1:]} == {"0"}


def test_without_a_lake_it_says_where_to_look(flyback: Flyback, own_topics: Settings, tmp_path: Path) -> None:
    said = flyback("reconcile", "--lake", str(tmp_path / "nowhere"))
    assert said.code == LakeError.exit_code
    assert "no lake at" in said.err
    assert said.out == ""


def test_without_topics_it_says_how_to_make_them(
    flyback: Flyback, kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    said = flyback("reconcile", "--bootstrap", kafka_bootstrap)
    assert said.code == 1
    assert "flyback topics create" in said.err
