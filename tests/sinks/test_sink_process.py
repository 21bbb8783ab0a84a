"""The sink as a process: killed, stopped, doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import flyback
from flyback.errors import WorkerFenced
from flyback.local.kafka import KafkaBroker
from flyback.local.process import free_port
from flyback.settings import Settings, load
from flyback.sinks.maintenance import maintain
from flyback.sinks.sink import Sink
from flyback.sinks.tables import landed
from flyback.streams.topology import Topology
from tests.sinks.events import CATALOG, correction, prediction
from tests.sinks.kafka import Written, all_landed, create_topics, eventually, running
from tests.sinks.test_sink import table

ROOT = Path(flyback.__file__).parent.parent
RUN = "from flyback import settings; from flyback.sinks.sink import run; run(settings.load())"
# kill -9 on one side of the moment at which rows and offsets become visible
CRASH_BEFORE = "def commit(*a): os.kill(os.getpid(), 9)"
CRASH_AFTER = "def commit(*a): real(*a); os.kill(os.getpid(), 9)"
CRASHING = """
import os
from flyback.sinks.tables import TableWriter
real = TableWriter.commit
{crash}
TableWriter.commit = commit
"""


@contextmanager
def process(settings: Settings, code: str = RUN) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def assert_exactly_once(settings: Settings, written: Written, count: int) -> None:
    for name in ("predictions", "corrections"):
        rows = table(settings, name).select(["task_id", "_partition", "_offset"]).to_pylist()
        assert sorted(row["task_id"] for row in rows) == sorted(f"t{i}" for i in range(count))
        assert len({(row["_partition"], row["_offset"]) for row in rows}) == count


def test_a_sink_killed_at_any_time_loses_nothing_and_doubles_nothing(
    settings: Settings, topology: Topology, written: Written
) -> None:
    rng = random.Random(7)
    quick = settings.model_copy(update={"commit_interval": timedelta(milliseconds=20), "commit_rows": 50})

    def reached(goal: int) -> bool:
        return sum(landed(settings.lake).values()) >= goal

    for round_ in range(5):
        first = round_ * 400
        with process(quick) as child:
            before = sum(landed(settings.lake).values())
            for start in range(first, first + 400, 50):
                written.events("Prediction", [prediction(f"t{i}") for i in range(start, start + 50)])
                written.events("Correction", [correction(f"t{i}") for i in range(start, start + 50)])
            goal = before + rng.randrange(1, 600)
            eventually(partial(reached, goal), "some progress")
            child.send_signal(signal.SIGKILL)
            child.wait()
    with process(quick):
        eventually(lambda: all_landed(settings, written), "all rows")
    assert_exactly_once(settings, written, 2000)


@pytest.mark.parametrize(("crash", "kept"), [(CRASH_BEFORE, 0), (CRASH_AFTER, 100)])
def test_a_sink_killed_right_before_or_after_a_commit_goes_on_rightly(
    settings: Settings, topology: Topology, written: Written, crash: str, kept: int
) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(100)])
    written.events("Correction", [correction(f"t{i}") for i in range(100)])
    patient = settings.model_copy(update={"commit_interval": timedelta(seconds=2)})
    with process(patient, CRASHING.format(crash=crash) + RUN) as child:
        assert child.wait(60) == -signal.SIGKILL
    assert sum(landed(settings.lake).values()) == kept
    with running(settings, topology):
        eventually(lambda: all_landed(settings, written), "all rows")
    assert_exactly_once(settings, written, 100)


def test_two_sinks_at_once_with_maintenance_lose_nothing_and_double_nothing(
    settings: Settings, topology: Topology, written: Written
) -> None:
    quick = settings.model_copy(
        update={
            "commit_interval": timedelta(milliseconds=30),
            "maintenance_interval": timedelta(milliseconds=300),
        }
    )
    done = threading.Event()
    errors: list[BaseException] = []
    sinks: dict[int, Sink] = {}

    def supervise(number: int) -> None:
        try:
            while not done.is_set():
                sinks[number] = Sink(quick, topology, CATALOG)
                with suppress(WorkerFenced):  # a supervisor starts it again
                    sinks[number].run()
        except BaseException as error:
            errors.append(error)

    def progressed(goal: int) -> bool:
        return bool(errors) or sum(landed(settings.lake).values()) >= goal

    threads = [threading.Thread(target=supervise, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 600, 20):
        written.events("Prediction", [prediction(f"t{i}") for i in range(start, start + 20)])
        written.events("Correction", [correction(f"t{i}") for i in range(start, start + 20)])
        # keep them busy for a while, rather than one batch for all
        eventually(partial(progressed, start), "progress")
    eventually(lambda: bool(errors) or all_landed(settings, written), "all rows")
    done.set()
    while any(thread.is_alive() for thread in threads):
        for sink in list(sinks.values()):
            sink.stop()
        for thread in threads:
            thread.join(0.1)
    assert not errors
    maintain(quick)
    assert_exactly_once(settings, written, 600)


def test_sigterm_commits_what_was_read_and_exits_with_0(
    settings: Settings, topology: Topology, written: Written
) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(20)])
    with process(settings) as child:
        eventually(lambda: all_landed(settings, written), "all rows")
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


def test_sigterm_ends_a_sink_whose_broker_died(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=kafka_broker.bootstrap, lake=str(tmp_path / "lake"), commit_interval="100ms", sink_http_port=0
    )
    topology = Topology(settings)
    create_topics(settings, topology)
    written = Written(settings, topology)
    written.events("Prediction", [prediction("t1")])
    with process(settings) as child:
        eventually(lambda: all_landed(settings, written), "the row")
        kafka_broker.stop()
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0


def test_sigterm_ends_a_sink_that_never_found_its_broker(tmp_path: Path) -> None:
    port = free_port()
    settings = load(bootstrap_servers=f"127.0.0.1:{port}", lake=str(tmp_path / "lake"), sink_http_port=0)
    with process(settings) as child:
        eventually((tmp_path / "lake").is_dir, "the sink has started")
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
