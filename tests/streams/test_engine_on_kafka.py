"""The engine over a real Kafka, as processes that are killed, stopped, robbed of their disks and put to sleep."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flyback import settings as settings_module
from flyback import topics
from flyback.errors import WorkerFenced
from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess
from flyback.settings import Settings
from tests.strategies import correction, grade, prediction
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import Raw, raw
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


class Fleet:
    """Engines as processes, each with a state folder of its own, over topics of their own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.kafka = OnKafka(settings)
        self._folder = folder
        self._processes: dict[str, ChildProcess] = {}

    def start(self, name: str) -> ChildProcess:
        found = self.settings.model_copy(update={"state_dir": self._folder / name})
        process = ChildProcess(
            f"engine {name}",
            [sys.executable, "-m", "tests.streams.engine_process"],
            self._folder / f"{name}.log",
            env={**os.environ, **found.environment()},
            cwd=ROOT,
        )
        process.start()
        self._processes[name] = process
        return process

    def wipe(self, name: str) -> None:
        shutil.rmtree(self._folder / name)

    def until_processed(self) -> None:
        """Everything that was sent. Who ended as fenced is started again, as a supervisor would."""
        self.kafka.flush()

        def processed() -> bool:
            for name, process in list(self._processes.items()):
                if process.exit_code == WorkerFenced.exit_code:
                    self.start(name)
                assert process.exit_code in (None, 0, WorkerFenced.exit_code), process.log_tail()
            return self.kafka.is_processed()

        eventually(processed, "all that was sent is processed", SECONDS)

    def until_some_is_processed(self, of: str) -> None:
        eventually(lambda: self.kafka.committed(of) > 0, f"something of {of} is processed", SECONDS)

    def close(self) -> None:
        for process in self._processes.values():
            if process.pid is not None:
                os.killpg(process.pid, signal.SIGCONT)
            process.kill()


@pytest.fixture
def fleet(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    found = settings_module.load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=4,
        session_timeout="6s",
        transaction_timeout="6s",
        batch_events=50,
        transaction_interval="20ms",
        log_level="warning",
    )
    topics.create(found)
    with ExitStack() as stack:
        fleet = Fleet(found, tmp_path)
        stack.callback(fleet.close)
        yield fleet


def history(tasks: range, chance: random.Random) -> list[Raw]:
    """Four events of each task and some copies, in any order."""
    now = time.time_ns() // 1_000
    found = []
    for i in tasks:
        task, kind = f"task-{i}", chance.choice(("MODEL", "HUMAN"))
        actor = {"kind": kind, "name": "ann", "version": ""}
        events = [
            raw("Prediction", prediction(task, actor=actor, occurred_at=now)),
            raw("Correction", correction(task, occurred_at=now, authority=chance.randint(0, 1))),
            raw("Correction", correction(task, correction_id="d", verdict="CONFIRMED", occurred_at=now)),
            raw("Grade", grade(task, occurred_at=now, sampling_probability=0.5)),
        ]
        found += events
        if chance.random() < 0.1:
            found.append(chance.choice(events))
    chance.shuffle(found)
    return found


def test_two_workers_under_load_that_are_killed_lose_nothing_and_double_nothing(fleet: Fleet) -> None:
    chance = random.Random(7)
    workers = {name: fleet.start(name) for name in ("a", "b")}
    slices = [history(range(i * 150, i * 150 + 150), chance) for i in range(5)]

    def load(number: int) -> None:
        for message in slices[number]:
            fleet.kafka.start_sending(message)

    load(0)
    fleet.until_some_is_processed("Prediction")
    load(1)
    workers["a"].kill()
    workers["a"] = fleet.start("a")
    load(2)
    workers["b"].kill()
    fleet.wipe("b")
    workers["b"] = fleet.start("b")
    load(3)
    fleet.until_processed()
    assert workers["a"].stop(30) == 0
    load(4)
    workers["a"] = fleet.start("a")
    fleet.until_processed()

    fleet.kafka.verdict().check()
    assert fleet.kafka.verdict().derived().total() == 5 * 150 * 3


def test_a_worker_that_slept_through_its_session_doubles_nothing_when_it_wakes(fleet: Fleet) -> None:
    chance = random.Random(8)
    sleeper = fleet.start("a")
    for message in history(range(400), chance):
        fleet.kafka.start_sending(message)
    fleet.until_some_is_processed("Prediction")
    assert sleeper.pid is not None
    os.killpg(sleeper.pid, signal.SIGSTOP)

    fleet.start("b")
    fleet.until_processed()
    os.killpg(sleeper.pid, signal.SIGCONT)
    for message in history(range(400, 500), chance):
        fleet.kafka.start_sending(message)
    fleet.until_processed()

    fleet.kafka.verdict().check()
    assert fleet.kafka.verdict().derived().total() == 500 * 3


def test_every_client_of_the_engine_logs_in_where_kafka_asks_for_it(
    start_kafka: Callable[..., KafkaBroker], tmp_path: Path
) -> None:
    broker = start_kafka(sasl_scram=("flyback", "canary-password"))
    given: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_username": "flyback",
        "sasl_password": "canary-password",
        "partitions": 2,
        "state_dir": tmp_path / "state",
    }
    found = settings_module.load(**given)
    topics.create(found)
    kafka = OnKafka(found)
    kafka.send(raw("Prediction", prediction("t")))
    with running(found):
        eventually(kafka.is_processed, "the prediction is processed", SECONDS)
    for lost in (tmp_path / "state").glob("partition-*"):  # so that it is replayed
        shutil.rmtree(lost)

    kafka.send(raw("Correction", correction("t")))
    with running(found):
        eventually(kafka.is_processed, "the correction is processed", SECONDS)

    kafka.verdict().check()
    assert kafka.verdict().derived().total() == 1
