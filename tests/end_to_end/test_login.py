"""A Kafka that asks for a login: every client of every process logs in, and no password is ever shown."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess
from flyback.sinks.lake import lake
from flyback.streams.topology import TOPICS
from flyback.verify import compare
from tests.end_to_end.conftest import StartSite
from tests.end_to_end.site import SECONDS, Site
from tests.streams.on_kafka import OnKafka
from tests.streams.records import POISON
from tests.waiting import eventually

USER, PASSWORD, WRONG = "flyback", "canary-right-7f3a", "canary-wrong-9c1e"
VARIABLES = "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or its _FILE)"
SERVICE = """
import logging
logging.basicConfig(level=logging.DEBUG)
from flyback import Client, human, model
told = lambda kind, ids, error: print(repr(error))
with Client(on_error=told, delivery_timeout="{timeout}") as fb:
    {calls}
    print(fb, "left", fb.flush({seconds}))
    print(fb.stats())
"""
# past the look at the topics, as where a password is changed while a process runs
RUNNING_WORKER = (
    "import sys; from flyback import settings; from flyback.streams.worker import run; sys.exit(run(settings.load()))"
)
RUNNING_SINK = (
    "from flyback import logs, settings; from flyback.sinks.sink import run; "
    "found = settings.load(); logs.configure(found); run(found)"
)


@pytest.fixture
def guarded(start_kafka: Callable[..., KafkaBroker], start_site: StartSite) -> Site:
    """A site on a Kafka with SCRAM, without topics yet; everybody logs at debug level."""
    broker = start_kafka(sasl_scram=(USER, PASSWORD))
    return start_site(
        create=False,
        bootstrap_servers=broker.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_username=USER,
        sasl_password=PASSWORD,
        partitions=2,
        log_level="debug",
    )


def service(calls: str, timeout: str = "1m", seconds: int = 30) -> list[str]:
    """A program that uses the SDK and logs all it can."""
    return [sys.executable, "-c", SERVICE.format(calls=calls, timeout=timeout, seconds=seconds)]


def run(site: Site, command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    return done.stdout + done.stderr


def test_everything_works_behind_a_login_and_shows_no_password(guarded: Site) -> None:
    seen: list[str] = []

    def flyback(*arguments: str) -> str:
        done = guarded.run(*arguments)
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout + done.stderr)
        return done.stdout

    assert f"{len(TOPICS)} made" in flyback("topics", "create")
    assert "all topics are as the topology says" in flyback("topics", "check")
    predict = "fb.predict(task_id='t', prediction_id='p', actor=model('m', '1'), input='x', output='a')"
    seen.append(run(guarded, service(predict), guarded.environment()))
    worker = guarded.start_worker()
    sink = guarded.start_sink()
    guarded.until_landed()
    seen += [worker.get("healthz"), worker.get("metrics"), sink.get("healthz"), sink.get("metrics")]
    worker.stop()
    sink.stop()

    # again, with the password in a file and the state gone: the prediction is replayed, and joined by the new worker
    shutil.rmtree(guarded.folder / "state-worker")
    secret = guarded.folder / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    by_file = {"KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(secret)}
    worker = guarded.start_worker(**by_file)
    sink = guarded.start_sink(**by_file)
    correct = "fb.correct(task_id='t', prediction_id='p', output='b', author=human('ann'))"
    seen.append(run(guarded, service(correct), guarded.environment(**by_file)))
    reason, build = POISON["no UTF-8"]
    OnKafka(guarded.settings).send(build("t"))
    guarded.until_landed()
    window = 'flyback_window_reviewed{actor_kind="MODEL"'
    eventually(lambda: window in worker.get("metrics"), "Faust's windows are there", SECONDS)
    assert worker.health()["windows"] == "running"
    assert '"event": "restoring"' in worker.said()

    assert compare(guarded.settings).differences == []
    with lake(guarded.settings.lake) as tables:
        assert tables.sql("select truth.body from examples").fetchall() == [("b",)]
        assert tables.sql("select reason from dead_letters").fetchall() == [(reason,)]
    assert reason in flyback("dlq", "list")
    assert reason in flyback("dlq", "show")
    seen += [worker.get("healthz"), worker.get("metrics"), sink.get("healthz"), sink.get("metrics")]
    worker.stop()
    sink.stop()

    seen += [worker.said(), sink.said(), repr(guarded.settings)]
    assert all(seen)
    assert "flyback_events_total" in "".join(seen)
    assert not [text for text in seen if "canary" in text]


@pytest.fixture
def start() -> Iterator[Callable[..., ChildProcess]]:
    """Starts a program with a log of its own; it ends with the test."""
    with ExitStack() as stack:

        def run(name: str, command: list[str], folder: Path, environment: dict[str, str]) -> ChildProcess:
            process = ChildProcess(name, command, folder / f"{name}.log", env=environment, cwd=folder)
            return stack.enter_context(process)

        yield run


def test_a_wrong_password_is_told_by_each_process_and_not_shown(
    guarded: Site, start: Callable[..., ChildProcess]
) -> None:
    ports = {"FLYBACK_WORKER_HTTP_PORT": "0", "FLYBACK_SINK_HTTP_PORT": "0"}
    environment: dict[str, Any] = guarded.environment(KAFKA_SASL_PASSWORD=WRONG, **ports)
    predict = "fb.predict(task_id='t', actor=model('m', '1'), input='x', output='a')"
    module = [sys.executable, "-m", "flyback"]
    ending = {
        "topics create": ([*module, "topics", "create"], 1),
        "worker": ([*module, "worker"], 1),
        "sink": ([*module, "sink"], 1),
        "dlq list": ([*module, "dlq", "list"], 1),
        "service": (service(predict, timeout="3s"), 0),
    }
    # as they wait for a broker that is down
    waiting = {"running worker": RUNNING_WORKER, "running sink": RUNNING_SINK}
    programs = {name: program for name, (program, _) in ending.items()}
    programs |= {name: [sys.executable, "-c", code] for name, code in waiting.items()}
    processes = {name: start(name, program, guarded.folder, environment) for name, program in programs.items()}
    for name, (_, code) in ending.items():
        assert processes[name].wait(SECONDS) == code, processes[name].log_tail()
    for name in waiting:
        eventually(partial(says, processes[name], VARIABLES), f"the {name} says it", SECONDS)
        assert processes[name].stop(15) == 0
    for process in processes.values():
        assert says(process, VARIABLES), process.name
        assert not says(process, "Traceback"), process.name
        assert not says(process, "canary"), process.name


def says(process: ChildProcess, text: str) -> bool:
    return text in process.log.read_text(encoding="utf-8")
