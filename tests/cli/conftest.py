"""The command line as tests call it: in this process where that is enough, as a real one where it matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from typer.testing import CliRunner

from flyback import history, topics
from flyback.cli.app import app
from flyback.history import Place
from flyback.local.process import free_port
from flyback.settings import Settings, load
from tests.streams.alert_stage import AlertStage


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Flyback = Callable[..., Said]


@pytest.fixture(autouse=True)
def own_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual ports may be those of a `flyback up` that has nothing to do with this test."""
    for name in ("FLYBACK_WORKER_HTTP_PORT", "FLYBACK_SINK_HTTP_PORT", "FLYBACK_DASHBOARD_PORT"):
        monkeypatch.setenv(name, str(free_port()))


@pytest.fixture
def flyback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flyback:
    """Runs a command in this process, in an empty folder; `stdin=` is what it reads."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None) -> Said:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command as a process of its own in an empty folder; what still runs at the end is killed."""
    running: list[tuple[tuple[str, ...], subprocess.Popen[str]]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flyback", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append((arguments, process))
        return process

    yield start
    for arguments, process in running:
        if process.poll() is None:
            process.kill()
        _, said = process.communicate()
        sys.stderr.write(f"{arguments} came to {process.returncode} and said:\n{said}\n")  # pytest shows it on failure


@pytest.fixture
def own_topics(kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """All topics, made on real Kafka under a prefix of this test's own, which the environment names too."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    settings = load()
    topics.create(settings)
    return settings


@pytest.fixture
def read_by_commands(monkeypatch: pytest.MonkeyPatch) -> Callable[[AlertStage], AlertStage]:
    """Lets commands read a stage's Kafka, which is in memory; its messages are a real client's."""

    def shown(stage: AlertStage) -> AlertStage:
        def places(settings: Settings, topics: Sequence[str]) -> list[Place]:
            return [(topic, number) for topic in topics for number in range(len(stage.kafka.logs[topic]))]

        def next_offsets(settings: Settings, topics: Sequence[str]) -> dict[Place, int]:
            return {
                (topic, number): stage.kafka.logs[topic][number].stable for topic, number in places(settings, topics)
            }

        def read(settings: Settings, topics: Sequence[str]) -> Iterator[Any]:
            consumer = stage.kafka.consumer({"group.id": "reader", "isolation.level": "read_committed"})
            consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places(settings, topics)])
            yield from consumer.consume(100_000, 0)

        for function in (places, next_offsets, read):
            monkeypatch.setattr(history, function.__name__, function)
        monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", stage.settings.topic_prefix)
        return stage

    return shown
