"""Dead letters that are put back, on real Kafka: by the rules of today, each once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback import topics
from flyback.deadletters import DeadLetter, Selection
from flyback.replay import FROM, load_repair, replay
from flyback.schemas import codec, wire
from flyback.schemas.catalog import hashed_id
from flyback.settings import Settings, load
from flyback.streams import dlq, join
from flyback.streams.join import Arrived
from flyback.streams.topology import Topology, partition_for
from tests.replay.cemetery import ARRIVED, Cemetery, origins, put_back, tasks
from tests.strategies import correction, prediction
from tests.streams.on_kafka import OnKafka
from tests.streams.records import Raw, a_correction, a_prediction, raw


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
            headers: dict[str, str | bytes | None] = {**said, header: content}
            producer.produce(topic + ".dlq", a_correction().value, b"t", headers=headers)
    assert producer.flush(60) == 0
    assert dict(replay(settings).not_replayable) == {"unknown_origin": 10}


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
