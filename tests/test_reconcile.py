"""The cold path on real Kafka, with a join window of a second: after it the lake has every pair, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from flyback import history, topics
from flyback.deadletters import Selection
from flyback.errors import BrokerError, LakeError, RefusedToStart, UnknownSchema, WorkerFenced
from flyback.landing import Stalled, wait_until_landed
from flyback.local.kafka import KafkaBroker
from flyback.reconcile import Finding, reconcile
from flyback.reconcile import writer as writers
from flyback.reconcile.writer import Writer
from flyback.replay import replay
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings, load
from flyback.sinks.tables import landed
from flyback.streams.clients import KafkaClients
from flyback.streams.outputs import Output
from flyback.streams.topology import Kind, Topology
from flyback.verify import compare
from tests.sinks import kafka as sinks
from tests.strategies import correction, grade, prediction
from tests.streams.on_kafka import OnKafka
from tests.streams.on_kafka import running as engine_running
from tests.streams.records import raw
from tests.waiting import eventually

WINDOW = timedelta(seconds=1)
PERSON = {"kind": "HUMAN", "name": "zoe", "version": ""}
KILLED_BEFORE_COMMIT = """
import os, signal
from flyback.reconcile import reconcile
from flyback.reconcile.writer import Writer
from flyback.settings import load
def kill(self):
    assert self._producer.flush(30) == 0
    os.kill(os.getpid(), signal.SIGKILL)
Writer._commit = kill
reconcile(load(), lambda *_: None)
"""


def silent(*_: object) -> None:
    """No progress to show."""


class Warm:
    """A stream and a sink at work, and somebody who judges too late."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kafka = OnKafka(settings)

    def send_late(self, tasks: range) -> None:
        """Answers by models and people, with a correction and a grade of each that come after the window."""
        for i in tasks:
            actor: dict[str, Any] = {"actor": PERSON} if i % 2 else {}
            self.kafka.start_sending(raw("Prediction", prediction(f"t{i}", **actor)))
        self.kafka.flush()
        closed = time.time() + WINDOW.total_seconds() + 0.1
        eventually(lambda: time.time() > closed, "the window of these is over")
        for i in tasks:
            self.kafka.start_sending(raw("Correction", correction(f"t{i}")))
            self.kafka.start_sending(raw("Grade", grade(f"t{i}")))
        self.kafka.flush()

    def send_in_time(self, tasks: range) -> None:
        for i in tasks:
            self.kafka.start_sending(raw("Prediction", prediction(f"t{i}")))
            self.kafka.start_sending(raw("Correction", correction(f"t{i}", verdict="CONFIRMED")))
        self.kafka.flush()

    def until_landed(self) -> None:
        wait_until_landed(self.settings, silent, lambda: None)

    def reconcile(self, write: bool = True) -> dict[str, Finding]:
        """By topic, without the prefix."""
        prefix = self.settings.topic_prefix
        return {found.topic.removeprefix(prefix): found for found in reconcile(self.settings, silent, write)}

    def derived(self) -> int:
        """How many derived events Kafka shows."""
        return sum(1 for _ in history.read(self.settings, Topology(self.settings).of(Kind.DERIVED)))

    def check(self) -> None:
        """The lake is what batch derives without a window, each pair once, contents included."""
        self.until_landed()
        whole = self.settings.model_copy(update={"join_window": timedelta(days=1)})
        # counts are those of the window
        assert [each for each in compare(whole).differences if not each.startswith("failure rates")] == []


def settings_for(bootstrap: str, prefix: str, folder: Path) -> Settings:
    """Topics that keep their messages, a window of a second."""
    found = load(
        bootstrap_servers=bootstrap,
        topic_prefix=prefix,
        group=prefix,
        lake=str(folder / "lake"),
        state_dir=folder / "state",
        transaction_interval="20ms",
        commit_interval="200ms",
        maintenance_interval="0s",
        session_timeout="6s",
    )
    topics.create(found)
    return found.model_copy(update={"join_window": WINDOW})


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    return settings_for(kafka_bootstrap, topic_prefix, tmp_path)


@pytest.fixture
def warm(settings: Settings) -> Iterator[Warm]:
    with engine_running(settings), sinks.running(settings, Topology(settings)):
        yield Warm(settings)


@pytest.fixture
def warm_once(settings: Settings) -> Settings:
    """One event is joined and in the lake; nobody is at work any more."""
    with engine_running(settings), sinks.running(settings, Topology(settings)):
        OnKafka(settings).send(raw("Prediction", prediction()))
        wait_until_landed(settings, silent, lambda: None)
    return settings


def test_late_feedback_is_reported_then_written_and_then_known(warm: Warm) -> None:
    warm.send_in_time(range(100, 103))
    warm.send_late(range(10))
    said = warm.reconcile(write=False)
    before = warm.derived()
    assert {name: (found.missing - found.late, found.written) for name, found in said.items()} == {
        "examples.v1": (0, 0),
        "graded-examples.v1": (0, 0),
        "coaching.v1": (0, 0),
    }
    missing = [found.late for found in said.values()]
    assert missing[0] >= 5  # on a slow day some of those in time are late
    assert missing[1:] == [5, 10]
    assert [found.written for found in warm.reconcile().values()] == missing
    assert warm.derived() == before + sum(missing) == 23
    again = warm.reconcile()
    assert {(found.missing, found.without_raw) for found in again.values()} == {(0, 0)}
    assert warm.derived() == 23
    warm.check()


def test_what_a_killed_run_left_open_is_never_seen_and_the_next_run_is_exact(warm: Warm) -> None:
    warm.send_late(range(4))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_COMMIT],
        env={**os.environ, **warm.settings.environment()},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert sum(found.written for found in warm.reconcile().values()) == 8
    assert warm.derived() == 8
    warm.check()


def test_a_second_run_fences_the_first_and_each_pair_is_written_once(warm: Warm) -> None:
    topology = Topology(warm.settings)
    warm.send_late(range(4))
    first = Writer(KafkaClients(warm.settings), warm.settings, topology)
    assert sum(found.written for found in warm.reconcile().values()) == 8
    with pytest.raises(WorkerFenced, match=r"another `flyback reconcile`.*Run `flyback reconcile` again"):
        first.write([Output(topology.topic_of("Example"), 0, b"t", b"never seen")] * 3, silent)
    assert warm.derived() == 8
    warm.check()


def test_a_run_that_is_broken_off_leaves_nothing_behind(warm: Warm) -> None:
    topic = Topology(warm.settings).topic_of("Example")
    writer = Writer(KafkaClients(warm.settings), warm.settings, Topology(warm.settings))

    def some() -> Iterator[Output]:
        yield Output(topic, 0, b"t", b"never seen")
        assert writer._producer.flush(30) == 0  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(some(), silent)
    aborted_at_once = writers._TIMEOUT_SECONDS / 2
    assert set(history.next_offsets(warm.settings, [topic], aborted_at_once).values()) == {0}


def test_it_ends_and_is_exact_while_events_keep_coming(warm: Warm) -> None:
    warm.send_late(range(10))
    enough = threading.Event()

    def send() -> None:
        for i in range(1_000, 1_000_000, 20):
            if enough.is_set():
                return
            warm.send_in_time(range(i, i + 20))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        before = warm.kafka.committed("Prediction")
        eventually(lambda: warm.kafka.committed("Prediction") > before, "the load is on its way", 60)
        written = sum(found.written for found in warm.reconcile().values())
        assert written >= 20  # and a few of the load that were slow
        warm.reconcile()
    finally:
        enough.set()
        sending.join()
    warm.reconcile()
    warm.check()


class WithoutExamples(BundledCatalog):
    """Of a sink that cannot read examples."""

    def schema(self, schema_id: int) -> codec.Schema:
        if schema_id == self.id_for("Example", ""):
            raise UnknownSchema(schema_id)
        return super().schema(schema_id)


def test_what_a_sink_refused_is_not_written_again_and_is_known_once_it_is_replayed(settings: Settings) -> None:
    warm = Warm(settings)
    refusing = settings.model_copy(update={"unknown_schema": "dead-letter", "unknown_schema_timeout": timedelta(0)})

    def said() -> dict[str, tuple[int, int, int]]:
        return {name: (found.missing, found.refused, found.written) for name, found in warm.reconcile().items()}

    with engine_running(settings):
        with sinks.running(refusing, Topology(settings), WithoutExamples()):
            warm.send_late(range(1))
            assert said() == {"examples.v1": (1, 0, 1), "graded-examples.v1": (1, 0, 1), "coaching.v1": (0, 0, 0)}
            assert said() == {"examples.v1": (1, 1, 0), "graded-examples.v1": (0, 0, 0), "coaching.v1": (0, 0, 0)}
        with sinks.running(settings, Topology(settings)):
            assert replay(settings, Selection("examples.v1")).replayed == 1
            assert set(said().values()) == {(0, 0, 0)}
            warm.check()


def test_rows_are_paired_though_retention_has_emptied_the_raw_topics(warm: Warm) -> None:
    warm.send_late(range(4))
    warm.until_landed()
    raw_topics = Topology(warm.settings).raw
    everything = [TopicPartition(topic, p, -1) for topic, p in history.places(warm.settings, raw_topics)]
    admin = AdminClient(warm.settings.kafka())
    for deleted in admin.delete_records(everything).values():
        deleted.result(30)
    assert list(history.read(warm.settings, raw_topics)) == []
    assert sum(found.written for found in warm.reconcile().values()) == 8


def test_without_a_lake_it_says_so(settings: Settings) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        reconcile(settings, silent)


def test_an_address_without_a_lake_is_told_at_once(settings: Settings) -> None:
    with pytest.raises(LakeError, match=r"no lake at ftp://nowhere/lake: .* is FLYBACK_LAKE"):
        reconcile(settings.model_copy(update={"lake": "ftp://nowhere/lake"}), silent)


def test_a_lake_of_other_topics_is_refused(settings: Settings, topic_prefix: str) -> None:
    with sinks.running(settings, Topology(settings)):
        OnKafka(settings).send(raw("Prediction", prediction()))
        ends = history.next_offsets(settings, Topology(settings).raw)
        eventually(lambda: landed(settings.lake).items() >= {p: e for p, e in ends.items() if e}.items(), "", 60)
    others = settings.model_copy(update={"topic_prefix": f"other-{topic_prefix}"})
    topics.create(others)
    with pytest.raises(RefusedToStart, match="connect to the cluster and topics that it was filled from"):
        reconcile(others, silent)


def test_a_stream_that_does_not_get_on_is_named(warm_once: Settings) -> None:
    OnKafka(warm_once).send(raw("Prediction", prediction("later")))
    with pytest.raises(Stalled, match=f"is a worker of group {warm_once.group} running"):
        reconcile(warm_once, silent, stall_seconds=0.5)


def test_a_group_that_nobody_joins_in_is_named_at_once_with_the_one_of_the_workers(warm_once: Settings) -> None:
    other = warm_once.model_copy(update={"group": "other"})
    with pytest.raises(Stalled, match=f"group other has no worker .* were in {warm_once.group}, is FLYBACK_GROUP"):
        reconcile(other, silent, stall_seconds=1e6)


def test_where_no_worker_ever_ran_it_says_to_start_one(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    OnKafka(settings).send(raw("Prediction", prediction()))
    with pytest.raises(Stalled, match="has joined nothing yet: start `flyback worker`"):
        reconcile(settings, silent, stall_seconds=1e6)


def test_what_takes_long_is_written_in_short_transactions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_SECONDS", 0.0)
    topic = Topology(settings).topic_of("Example")

    def some() -> Iterator[Output]:
        for value in (b"first", b"second", b"third"):
            yield Output(topic, 0, b"t", value)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Writer(KafkaClients(settings), settings, Topology(settings)).write(some(), silent)
    history.next_offsets(settings, [topic])  # a transaction's messages can be seen some moments after its commit
    assert [message.value() for message in history.read(settings, [topic])] == [b"first", b"second"]


def test_a_broker_that_goes_away_leaves_nothing_and_says_to_run_again(
    kafka_broker: KafkaBroker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_DELIVERY_SECONDS", 3.0)
    settings = settings_for(kafka_broker.bootstrap, topic_prefix, tmp_path)
    topology = Topology(settings)
    output = Output(topology.topic_of("Example"), 0, b"t", b"never seen")
    writer = Writer(KafkaClients(settings), settings, topology)

    def some() -> Iterator[Output]:
        yield output
        kafka_broker.stop()
        yield output

    with pytest.raises(BrokerError, match="Run `flyback reconcile` again"):
        writer.write(some(), silent)
    kafka_broker.start()
    Writer(KafkaClients(settings), settings, topology).write([output], silent)
    values = Counter(message.value() for message in history.read(settings, [output.topic]))
    assert values == {b"never seen": 1}
