"""Dead letters that are put back, on real Kafka: by the rules of today, each once, whatever ends a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback import history, topics
from flyback.deadletters import DeadLetter, Selection
from flyback.errors import BrokerError, ConfigurationError, WorkerFenced
from flyback.local.kafka import KafkaBroker
from flyback.replay import FROM, RepairFailed, Report, load_repair, replay
from flyback.replay import _Writer as Writer
from flyback.schemas import codec, wire
from flyback.schemas.catalog import hashed_id
from flyback.settings import Settings, load
from flyback.streams import dlq, join
from flyback.streams.join import Arrived
from flyback.streams.outputs import Output
from flyback.streams.topology import Topology, partition_for
from flyback.streams.transactions import Transactions
from tests.strategies import correction, prediction
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import Raw, a_correction, a_prediction, raw
from tests.waiting import eventually

ARRIVED = 1_767_225_600_000


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=2,
        state_dir=tmp_path / "state",
        session_timeout="6s",
    )
    topics.create(found)
    return found


class Cemetery:
    """Writes dead letters as engine and sink do, of messages that need not have existed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(settings.kafka())
        self.buried = 0

    def bury(
        self, message: Raw, reason: str, offset: int | None = None, arrived_at: int = ARRIVED, max_bytes: int = 100_000
    ) -> str:
        """The coordinates that the letter names."""
        topic = Topology(self._settings).topic_of(message.record)
        offset = self.buried if offset is None else offset
        headers = [("traceparent", b"00-1")]
        value, described = dlq.letter(topic, 0, offset, arrived_at, message.value, headers, reason, "Why.", max_bytes)
        self._producer.produce(topic + ".dlq", value, message.key, 0, headers=list(described))
        assert self._producer.flush(60) == 0
        self.buried += 1
        return f"{topic}/0/{offset}"


@pytest.fixture
def cemetery(settings: Settings) -> Cemetery:
    return Cemetery(settings)


def put_back(settings: Settings, record: str = "Correction") -> list[Message]:
    topic = Topology(settings).topic_of(record)
    history.next_offsets(settings, [topic])  # a transaction's messages can be seen some moments after its commit
    return list(history.read(settings, [topic]))


def origins(settings: Settings) -> list[str]:
    """Where the messages in the corrections' topic had stood, as far as they were put back; in order."""
    headers = [dict(wire.headers(message)) for message in put_back(settings)]
    return sorted((found[FROM] or b"").decode() for found in headers if FROM in found)


def tasks(number: int) -> list[Raw]:
    return [a_correction(f"task {i}") for i in range(number)]


def test_a_message_goes_back_as_it_was_into_the_partition_of_its_key(settings: Settings, cemetery: Cemetery) -> None:
    sent = {message.key: message for message in tasks(8)}
    where = {message.key: cemetery.bury(message, "wrong_partition") for message in sent.values()}
    assert replay(settings).replayed == 8
    found = put_back(settings)
    assert {message.partition() for message in found} == {0, 1}
    for message in found:
        key: Any = message.key()
        assert message.value() == sent[key].value
        assert message.partition() == partition_for(key, settings.partitions)
        assert wire.headers(message) == [("traceparent", b"00-1"), (FROM, where[key].encode())]


def test_large_messages_go_back_though_the_topic_takes_few_of_them_at_once(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    small = load(
        bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, max_event_bytes=50_000, compression="none"
    )
    topics.create(small)
    cemetery = Cemetery(small)
    for i in range(10):
        cemetery.bury(a_correction(f"task {i}", reason="x" * 49_000), "wrong_partition")
    assert replay(small).replayed == 10


def test_doing_it_again_adds_nothing(settings: Settings, cemetery: Cemetery) -> None:
    where = [cemetery.bury(message, "wrong_partition") for message in tasks(3)]
    assert replay(settings).replayed == 3
    again = replay(settings)
    assert (again.replayed, again.already) == (0, 3)
    where.append(cemetery.bury(a_correction("later"), "wrong_partition"))
    assert (replay(settings).replayed, origins(settings)) == (1, where)


def test_copies_of_a_letter_are_one_but_not_those_of_an_earlier_topic(settings: Settings, cemetery: Cemetery) -> None:
    for arrived_at in (ARRIVED, ARRIVED, ARRIVED + 1):
        cemetery.bury(a_correction(), "wrong_partition", offset=7, arrived_at=arrived_at)
    report = replay(settings)
    assert (report.replayed, report.already, len(put_back(settings))) == (2, 1, 2)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(a_correction(), "wrong_partition")
    cemetery.bury(replace(a_correction("other"), key=None), "missing_key")
    report = replay(settings, dry_run=True)
    assert (report.replayed, dict(report.not_replayable)) == (1, {"missing_key": 1})
    assert put_back(settings) == []
    assert replay(settings).replayed == 1


def test_the_mark_says_what_was_put_back_and_why(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(replace(a_correction("t"), key=None), "missing_key", offset=5)
    replay(settings, repair=load_repair("key", settings))
    [mark] = put_back(settings, "Replay")
    value: Any = mark.value()
    found = codec.decode("Replay", value, codec.bundled("Replay"))
    assert found.pop("replayed_at") > ARRIVED * 1000
    assert found == {
        "topic": Topology(settings).topic_of("Correction"),
        "partition": 0,
        "offset": 5,
        "arrived_at": ARRIVED * 1000,
        "to_partition": partition_for(b"t", settings.partitions),
        "reason": "missing_key",
        "repaired": True,
    }


def test_what_would_be_refused_again_stays_with_the_reason(settings: Settings, cemetery: Cemetery) -> None:
    good = a_correction()
    assert good.value is not None
    letters = {
        "truncated": replace(good, value=good.value[:-9]),
        "empty_value": replace(good, value=None),
        "key_mismatch": replace(good, key=b"another"),
        "missing_output": raw("Correction", correction(output=None)),
        "unknown_schema": replace(good, value=wire.frame(7, good.value[wire.HEADER :])),
        "seen": good,
    }
    where = {reason: cemetery.bury(m, "conflict" if reason == "seen" else reason) for reason, m in letters.items()}
    report = replay(settings)
    assert {(coordinates, reason) for coordinates, reason, _ in report.named} == {
        (coordinates, reason) for reason, coordinates in where.items()
    }
    assert report.not_replayable.total() == len(letters)
    assert put_back(settings) == []


def test_letters_of_another_program_are_left_alone(settings: Settings) -> None:
    producer = Producer(settings.kafka())
    topic = Topology(settings).topic_of("Correction")
    producer.produce(topic + ".dlq", a_correction().value, b"t")
    said = {dlq.TOPIC: topic, dlq.PARTITION: "0", dlq.OFFSET: "0", dlq.TIMESTAMP: "0"}
    wrong = {
        dlq.PARTITION: ("", "-1", str(2**31)),
        dlq.OFFSET: ("--5", "²", str(2**63)),
        dlq.TIMESTAMP: ("²", "soon", "9" * 30),
    }
    for header, contents in wrong.items():
        for content in contents:
            headers = {**said, header: content}
            producer.produce(topic + ".dlq", a_correction().value, b"t", headers=headers)
    assert producer.flush(60) == 0
    assert dict(replay(settings).not_replayable) == {"unknown_origin": 10}


def test_the_key_can_be_set_to_the_task_where_the_value_decodes(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(replace(a_correction("without"), key=None), "missing_key")
    cemetery.bury(replace(a_correction("with another"), key=b"x"), "key_mismatch")
    cemetery.bury(Raw("Correction", "t", b"t", b"\x00junk"), "truncated")
    report = replay(settings, repair=load_repair("key", settings))
    assert (report.replayed, report.left) == (2, 1)
    assert {message.key() for message in put_back(settings)} == {b"without", b"with another"}


def test_a_hook_may_change_a_message_or_leave_it(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(raw("Correction", correction("a", output=None)), "missing_output")
    cemetery.bury(a_correction("b"), "wrong_partition")

    def repair(letter: DeadLetter) -> tuple[bytes | None, bytes | None] | None:
        return (letter.key, a_correction("a").value) if letter.key == b"a" else None

    report = replay(settings, repair=repair)
    assert (report.replayed, report.left) == (1, 1)
    assert [message.value() for message in put_back(settings)] == [a_correction("a").value]


@pytest.mark.parametrize("given", ["text", (b"k",), (b"k", "v")])
def test_a_hook_that_gives_something_else_is_told_so(settings: Settings, cemetery: Cemetery, given: Any) -> None:
    where = cemetery.bury(a_correction(), "wrong_partition")
    with pytest.raises(RepairFailed, match=f"{where} gave {type(given).__name__}"):
        replay(settings, repair=lambda letter: given)
    assert put_back(settings) == []


def test_a_hook_that_fails_is_named_with_its_letter(settings: Settings, cemetery: Cemetery) -> None:
    where = cemetery.bury(a_correction(), "wrong_partition")

    def repair(letter: DeadLetter) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(RepairFailed, match=f"{where} failed: ZeroDivisionError: a bug"):
        replay(settings, repair=repair)


@pytest.mark.parametrize(
    "name",
    ["nothing", "no_such_module:repair", "json:repair", "json:__name__", ":f", ".here:f", "a_typo:f", "a_fault:f"],
)
def test_a_hook_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_typo.py").write_text("def f(letter:\n")
    (tmp_path / "a_fault.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(ConfigurationError, match=f"--repair {name}: "):
        load_repair(name, load())


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


def test_letters_of_derived_topics_go_back_there(settings: Settings, cemetery: Cemetery) -> None:
    arrived = [
        Arrived(record, event, Topology(settings).topic_of(record), 0, 0, ARRIVED)
        for record, event in (("Prediction", prediction()), ("Correction", correction()))
    ]
    derived = join.derive(*arrived)
    value = codec.encode("Example", derived.event, hashed_id(codec.bundled("Example")))
    cemetery.bury(Raw("Example", "t", b"t", value), "unknown_schema")
    cemetery.bury(Raw("Example", "t", b"t", value[:-1]), "truncated")
    report = replay(settings)
    assert (report.replayed, dict(report.not_replayable)) == (1, {"truncated": 1})
    [found] = put_back(settings, "Example")
    assert (found.key(), found.value()) == (b"t", value)


class TestByReference:
    """Letters of messages over the size limit: their bytes are in the source topic only."""

    LIMIT = 2_000

    def refused(self, settings: Settings, cemetery: Cemetery) -> tuple[Raw, Settings]:
        """A message that was refused by these settings."""
        message = a_correction("large", reason="x" * self.LIMIT)
        topic, partition, offset = OnKafka(settings).send(message)
        producer = Producer(settings.kafka())
        value, headers = dlq.letter(
            topic, partition, offset, ARRIVED, message.value, [], "oversized", "Why.", self.LIMIT
        )
        producer.produce(topic + ".dlq", value, message.key, partition, headers=list(headers))
        assert producer.flush(60) == 0
        return message, settings.model_copy(update={"max_event_bytes": self.LIMIT})

    def test_one_is_taken_from_its_topic_once_the_limit_allows_it(self, settings: Settings, cemetery: Cemetery) -> None:
        message, small = self.refused(settings, cemetery)
        assert dict(replay(small).not_replayable) == {"oversized": 1}
        assert replay(settings).replayed == 1
        assert [found.value() for found in put_back(settings)] == [message.value] * 2
        assert len(origins(settings)) == 1

    def test_one_that_retention_removed_is_gone(self, settings: Settings, cemetery: Cemetery) -> None:
        self.refused(settings, cemetery)
        topic = Topology(settings).topic_of("Correction")
        partition = partition_for(b"large", settings.partitions)
        admin = AdminClient(settings.kafka())  # its answers come only while it lives
        [removed] = admin.delete_records([TopicPartition(topic, partition, 1)]).values()
        removed.result(60)
        assert dict(replay(settings).not_replayable) == {"gone": 1}

    def test_one_in_whose_place_another_message_stands_is_gone(self, settings: Settings, cemetery: Cemetery) -> None:
        there = OnKafka(settings).send(replace(a_correction("other"), shift=0))
        large = a_correction(reason="x" * self.LIMIT)
        cemetery.bury(large, "oversized", offset=there[2], max_bytes=self.LIMIT)
        assert dict(replay(settings).not_replayable) == {"gone": 1}


def test_a_conflict_that_is_given_an_id_of_its_own_is_derived(settings: Settings) -> None:
    kafka = OnKafka(settings)
    for message in (a_prediction(), a_correction(), a_correction(reason="other content")):
        kafka.send(message)

    def repair(letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
        return letter.key, a_correction(correction_id="of its own", reason="other content").value

    with running(settings):
        eventually(kafka.is_processed, "all is processed", 120)
        assert dict(replay(settings).not_replayable) == {"seen": 1}
        assert replay(settings, Selection(reason="conflict"), repair).replayed == 1
        eventually(lambda: kafka.verdict().derived().total() == 2, "both are derived", 120)
    assert len(kafka.verdict().letters()) == 1


def test_what_is_refused_meanwhile_is_for_the_next_run(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(a_correction(), "wrong_partition")

    def repair(letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
        cemetery.bury(a_correction(), "wrong_partition")
        return letter.key, letter.value

    assert replay(settings, repair=repair).selected == 1


def test_the_selection_is_by_reason_place_and_arrival(settings: Settings, cemetery: Cemetery) -> None:
    first = datetime.fromtimestamp(ARRIVED / 1000, UTC)
    for hour, reason in enumerate(("wrong_partition", "missing_key", "wrong_partition")):
        cemetery.bury(a_correction(f"{hour}"), reason, arrived_at=ARRIVED + hour * 3_600_000)
    cemetery.bury(a_prediction("p"), "wrong_partition", arrived_at=ARRIVED)
    topic = Topology(settings).topic_of("Correction")

    def selected(**given: Any) -> int:
        return replay(settings, Selection(**given), dry_run=True).selected

    assert selected() == 4
    assert selected(reason="wrong_partition") == 3
    assert selected(topic="corrections.v1") == 3
    assert selected(coordinates=f"{topic}/0/1") == 1
    assert selected(since=first + timedelta(hours=1)) == 2
    assert selected(until=first + timedelta(hours=1)) == 2
    assert selected(topic=topic, since=first + timedelta(hours=1), until=first + timedelta(hours=2)) == 1


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
