"""Kill points: at the step and the passing that were named, a real end by SIGKILL."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flyback import Client, model, topics
from flyback.landing import wait_until_landed
from flyback.settings import load
from tests.chaos.faults_steps import kill_file, start_watched, until_killed
from tests.chaos.killpoints import KillPoint, Trigger
from tests.chaos.service import Service

SECONDS = 90.0


class Work:
    def do(self) -> str:
        return "done"


class Killed(Exception):
    """Stands for SIGKILL: nothing after it is done."""


@pytest.fixture
def work() -> type[Work]:
    """A class of the test's own, since wrapping changes it."""
    return type("OwnWork", (), {"do": Work.do})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kill"


def killing() -> None:
    raise Killed


def test_nothing_happens_until_the_file_is_there(work: type[Work], file: Path) -> None:
    trigger = Trigger(file, killing)
    trigger.before(work, "do", "before")
    trigger.after(work, "do", "after")
    assert work().do() == "done"


@pytest.mark.parametrize("step", ["before", "after"])
def test_the_named_passing_of_the_named_step_kills_and_passings_before_the_file_do_not_count(
    work: type[Work], file: Path, step: str
) -> None:
    trigger = Trigger(file, killing)
    trigger.before(work, "do", "before")
    trigger.after(work, "do", "after")
    work().do()
    KillPoint(step, 2).arm(file)
    assert work().do() == "done"
    with pytest.raises(Killed):
        work().do()


def test_the_file_is_taken_away_so_that_the_next_process_lives(work: type[Work], file: Path) -> None:
    KillPoint("before").arm(file)
    trigger = Trigger(file, killing)
    trigger.before(work, "do", "before")
    with pytest.raises(Killed):
        work().do()
    assert not file.exists()


def test_with_a_delay_the_step_goes_on_meanwhile(work: type[Work], file: Path) -> None:
    killed = threading.Event()
    trigger = Trigger(file, killed.set)
    trigger.before(work, "do", "during")
    KillPoint("during", delay_ms=1.5).arm(file)
    assert work().do() == "done"
    assert killed.wait(SECONDS)


@pytest.mark.parametrize("point", [KillPoint("before_commit", 17), KillPoint("during_commit", 1, 0.25)])
def test_a_kill_point_is_read_as_it_was_written(point: KillPoint) -> None:
    assert KillPoint.parse(str(point)) == point


@pytest.mark.parametrize(("command", "step"), [("worker", "before_live"), ("sink", "during_lake_commit")])
def test_a_real_process_ends_there_and_its_successor_does_the_work(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, command: str, step: str
) -> None:
    settings = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        lake=str(tmp_path / "lake"),
        state_dir=tmp_path / "state",
        commit_interval="300ms",
        session_timeout="6s",
        transaction_timeout="6s",
    )
    topics.create(settings)
    with Client(settings) as client:
        client.predict(task_id="t", actor=model("m"), input="text", output="a")
    environment = {**os.environ, **settings.environment()}
    services = {name: Service(name, name, tmp_path, environment) for name in ("worker", "sink")}
    point, victim = KillPoint(step), services[command]
    point.arm(kill_file(victim))
    try:
        for service in services.values():
            start_watched(service)
        assert until_killed([victim], point) is victim
        victim.start()
        wait_until_landed(settings, lambda *_: None, lambda: None, SECONDS)
    finally:
        for service in services.values():
            service.close()
