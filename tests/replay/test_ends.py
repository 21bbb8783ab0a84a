"""Whatever ends a run of replay, each dead letter is put back once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from flyback import topics
from flyback.deadletters import DeadLetter
from flyback.errors import BrokerError, WorkerFenced
from flyback.local.kafka import KafkaBroker
from flyback.replay import Report, replay
from flyback.replay import _Writer as Writer
from flyback.settings import Settings, load
from flyback.streams.outputs import Output
from flyback.streams.topology import Topology
from flyback.streams.transactions import Transactions
from tests.replay.cemetery import Cemetery, origins, tasks
from tests.waiting import eventually


def test_a_broker_that_is_away_at_the_start_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.replay._START_SECONDS", 0.1)
    nowhere = load(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(BrokerError, match=r"cannot start transactions as .*127.0.0.1:1 did not answer"):
        Writer(nowhere, Topology(nowhere))


def test_an_outcome_that_is_unknown_says_to_run_it_again(
    kafka_broker: KafkaBroker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(bootstrap_servers=kafka_broker.bootstrap, topic_prefix=topic_prefix, transaction_timeout="2s")
    topics.create(settings)
    topology = Topology(settings)
    insist = Transactions._insist

    def without_broker(self: Transactions, end: Callable[[float], None]) -> None:
        self._producer.flush(60)  # type: ignore[attr-defined]
        if kafka_broker.running:
            kafka_broker.stop()
        insist(self, end)

    monkeypatch.setattr(Transactions, "_insist", without_broker)
    with pytest.raises(BrokerError, match=r"cannot be known\. Run it again"):
        Writer(settings, topology).write([Output(topology.topic_of("Correction"), 0, b"t", b"never seen")])


LETTERS = 8
SLICE = 3

# Kills itself in the second transaction of three letters, before or after its commit, or between the two.
KILLED = f"""
import os, signal, sys
from flyback import replay, settings
from flyback.streams.transactions import Transactions

moment, count = sys.argv[1], 0
replay._MESSAGES = {SLICE}
insist = Transactions._insist

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(self, end):
    global count
    count += 1
    if (moment, count) == ("before the commit", 2):
        assert self._producer.flush(60) == 0
        die()
    insist(self, end)
    if (moment, count) == ("after the commit", 2):
        die()

def hook(letter):
    if moment == "between" and letter.key == b"task {SLICE + 1}":
        die()
    return letter.key, letter.value

Transactions._insist = dying
replay.replay(settings.load(), repair=hook)
"""


@pytest.mark.parametrize(
    ("moment", "written"), [("before the commit", SLICE), ("between", SLICE), ("after the commit", 2 * SLICE)]
)
def test_a_run_that_is_killed_leaves_whole_transactions_and_the_next_one_goes_on(
    settings: Settings, cemetery: Cemetery, moment: str, written: int
) -> None:
    where = [cemetery.bury(message, "wrong_partition") for message in tasks(LETTERS)]
    environment = {**os.environ, **settings.environment()}
    killed = subprocess.run([sys.executable, "-c", KILLED, moment], env=environment, check=False, timeout=120)
    assert killed.returncode == -9
    report = replay(settings)
    assert (report.replayed, report.already) == (LETTERS - written, written)
    assert origins(settings) == where


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.replay._MESSAGES", SLICE)


@pytest.mark.usefixtures("small_slices")
def test_progress_is_told_after_each_transaction(settings: Settings, cemetery: Cemetery) -> None:
    for message in tasks(LETTERS):
        cemetery.bury(message, "wrong_partition")
    seen: list[int] = []
    replay(settings, progress=lambda report: seen.append(report.replayed))
    assert seen == [3, 6, 8]


@pytest.fixture
def second_run() -> Iterator[Callable[[Callable[[], Report]], list[BaseException | Report]]]:
    """Starts a run in a thread; the list takes what it came to."""
    threads: list[threading.Thread] = []

    def start(run: Callable[[], Report]) -> list[BaseException | Report]:
        came_to: list[BaseException | Report] = []

        def body() -> None:
            try:
                came_to.append(run())
            except BaseException as error:
                came_to.append(error)

        threads.append(threading.Thread(target=body))
        threads[-1].start()
        return came_to

    yield start
    for thread in threads:
        thread.join(60)


@pytest.mark.usefixtures("small_slices")
def test_a_second_run_fences_the_first_and_each_letter_is_put_back_once(
    settings: Settings,
    cemetery: Cemetery,
    second_run: Callable[[Callable[[], Report]], list[BaseException | Report]],
) -> None:
    where = [cemetery.bury(message, "wrong_partition") for message in tasks(LETTERS)]
    reached, go_on = threading.Event(), threading.Event()

    def slow(letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
        if letter.key == b"task 4":  # in its second transaction
            reached.set()
            assert go_on.wait(60)
        return letter.key, letter.value

    first = second_run(lambda: replay(settings, repair=slow))
    assert reached.wait(60)
    second = replay(settings)
    assert (second.replayed, second.already) == (LETTERS - SLICE, SLICE)
    go_on.set()
    eventually(lambda: first, "the first run has ended", 60)
    assert isinstance(first[0], WorkerFenced)
    assert "another `flyback dlq replay` took over" in str(first[0])
    assert origins(settings) == where
