"""What the engine relies on in Kafka and its client, over the double and over a real Kafka: the double cannot lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_END, TIMESTAMP_LOG_APPEND_TIME, KafkaError, TopicPartition

from flyback.errors import TopicMismatch
from tests.streams.contract_clusters import (
    LAPSE,
    SECONDS,
    Cluster,
    Double,
    Opened,
    Real,
    next_error,
    next_message,
    produce,
    raised,
    read_to_the_end,
    until,
    until_end,
)
from tests.waiting import eventually


@pytest.fixture(params=["double", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Double() if request.param == "double" else Real(request.getfixturevalue("kafka_bootstrap"))


def answered(cluster: Cluster, topic: str) -> Mapping[str, str]:
    """The topic's id, asked for without waiting."""
    answer = cluster.clients.ask_topic_ids([topic])
    eventually(lambda: answer() is not None, "Kafka answers", SECONDS)
    found = answer()
    assert found is not None
    return found


@pytest.fixture
def name() -> str:
    return f"contract-{uuid4().hex[:8]}"


@pytest.fixture
def opened(cluster: Cluster) -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(cluster.clients, stack)


def test_committed_records_are_read_and_control_records_take_offsets(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name)
    everything = opened.reader(name, 0, "read_uncommitted")
    for commit, end in ((True, 1), (False, 3), (True, 5)):
        producer.begin_transaction()
        produce(producer, name, b"kept" if commit else b"dropped")
        # what was not sent yet would leave no trace of an abort
        until_end(everything, name, end)
        producer.commit_transaction(SECONDS) if commit else producer.abort_transaction(SECONDS)

    assert read_to_the_end(opened.reader(name, 0)) == ([b"kept", b"kept"], 6)


def test_a_reader_waits_at_an_open_transaction_and_the_watermark_follows_the_isolation(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1")
    producer = opened.producer(name)
    producer.begin_transaction()
    produce(producer, name, b"2")
    producer.poll(0)
    everything = opened.reader(name, 0, "read_uncommitted")
    until_end(everything, name, 2)
    cluster.append(name, b"3")

    reader = opened.reader(name, 0)
    assert read_to_the_end(reader) == ([b"1"], 1)
    assert reader.get_watermark_offsets(TopicPartition(name, 0), SECONDS) == (0, 1)

    producer.commit_transaction(SECONDS)
    assert read_to_the_end(reader) == ([b"2", b"3"], 4)


def test_a_record_keeps_key_value_headers_and_gets_the_time_of_its_append(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name)
    producer.begin_transaction()
    producer.produce(name, None, b"key", 0, headers=[("a", b"\xff"), ("a", None)])
    producer.commit_transaction(SECONDS)

    message = next_message(opened.reader(name, 0))
    assert (message.key(), message.value(), message.headers()) == (b"key", None, [("a", b"\xff"), ("a", None)])
    assert message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME
    assert (message.topic(), message.partition(), message.offset()) == (name, 0, 0)


@pytest.mark.parametrize("offset", [0, 9])
def test_a_position_outside_the_log_gives_an_error_that_names_it(
    cluster: Cluster, opened: Opened, name: str, offset: int
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1", b"2", b"3")
    cluster.delete_records(name, 2)

    found = next_error(opened.reader(name, offset))

    assert (found.topic(), found.partition(), found.offset()) == (name, 0, offset)
    assert found.error().code() == KafkaError._AUTO_OFFSET_RESET
    reader = opened.reader(name, 2)
    assert reader.get_watermark_offsets(TopicPartition(name, 0), SECONDS) == (2, 3)
    assert read_to_the_end(reader) == ([b"3"], 3)


@pytest.mark.parametrize("offset", [0, 9])
def test_a_position_outside_the_log_is_taken_for_the_start_where_the_client_is_told_so(
    cluster: Cluster, opened: Opened, name: str, offset: int
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1", b"2", b"3")
    cluster.delete_records(name, 2)
    assert read_to_the_end(opened.reader(name, offset, reset="earliest")) == ([b"3"], 3)


def test_the_first_offset_of_a_time_is_that_of_a_record_not_before_it_and_none_is_after_the_last(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1")
    reader = opened.reader(name, 0)
    at = next_message(reader).timestamp()[1]

    def first(since: int) -> int:
        [found] = reader.offsets_for_times([TopicPartition(name, 0, since)], timeout=SECONDS)
        return found.offset

    assert [first(at - 1), first(at), first(at + 1)] == [0, 0, OFFSET_END]


def test_nothing_comes_while_paused_and_after_seek_and_resume_all_from_there(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1", b"2", b"3")
    member = opened.member(name, "a", [name])
    until(lambda: member.places, member)
    place = TopicPartition(name, 0, 1)
    for _ in range(3):  # going back to read again is the same
        member.consumer.seek(place)
        until(lambda: member.messages or member.poll(), member)
        assert member.messages == []
        member.consumer.resume([place])
        until(lambda: len(member.messages) == 2, member)
        assert member.messages == [b"2", b"3"]
        member.consumer.pause([place])
        member.messages.clear()


def test_a_place_that_is_not_assigned_cannot_be_sought(cluster: Cluster, opened: Opened, name: str) -> None:
    cluster.create(name, 2)
    reader = opened.reader(name, 0)
    assert raised(lambda: reader.seek(TopicPartition(name, 1, 0))).code() == KafkaError._STATE


def test_members_get_the_same_partitions_of_all_topics_and_give_them_up_first(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    topics = [f"{name}-{i}" for i in range(3)]
    for topic in topics:
        cluster.create(topic, 4)
    first = opened.member(name, "a", topics)
    until(lambda: first.places, first)
    assert len(first.places or ()) == 12

    second = opened.member(name, "b", topics)
    until(lambda: first.places and second.places and len(first.places) == 6, first, second)

    assert [what for what, _ in first.told] == ["assigned", "revoked", "assigned"]
    assert first.places == [(topic, partition) for topic in topics for partition in (0, 1)]
    assert second.places == [(topic, partition) for topic in topics for partition in (2, 3)]


def test_an_error_in_a_callback_leaves_consume(cluster: Cluster, name: str) -> None:
    cluster.create(name, 1)
    consumer = cluster.clients.consumer({"group.id": name, "auto.offset.reset": "error"})

    def refuse(_: Any, __: Any) -> None:
        raise ZeroDivisionError

    consumer.subscribe([name], on_assign=refuse, on_revoke=refuse, on_lost=refuse)
    with pytest.raises(ZeroDivisionError):
        next_message(consumer)


def test_offsets_are_committed_with_their_transaction_and_not_readable_before(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    cluster.append(name, b"1", b"2", b"3")
    member = opened.member(name, "a", [name])
    until(lambda: member.places, member)
    producer = opened.producer(name)

    def offset(seconds: float = SECONDS) -> int:
        return member.consumer.committed([TopicPartition(name, 0)], seconds)[0].offset

    assert offset() == -1001

    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(name, 0, 2)], member.metadata, SECONDS)
    assert raised(lambda: offset(1.0)).code() == KafkaError._TIMED_OUT
    producer.commit_transaction(SECONDS)
    assert offset() == 2

    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(name, 0, 3)], member.metadata, SECONDS)
    producer.abort_transaction(SECONDS)
    assert offset() == 2

    producer.begin_transaction()
    noted = TopicPartition(name, 0, 4, metadata="a note")
    producer.send_offsets_to_transaction([noted], member.metadata, SECONDS)
    producer.commit_transaction(SECONDS)
    [found] = member.consumer.committed([TopicPartition(name, 0)], SECONDS)
    assert (found.offset, found.metadata) == (4, "a note")


def test_metadata_of_an_older_generation_cannot_commit_offsets_and_the_transaction_can_be_aborted(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 2)
    first = opened.member(name, "a", [name])
    until(lambda: first.places, first)
    older = first.metadata
    second = opened.member(name, "b", [name])
    until(lambda: second.places, first, second)
    producer = opened.producer(name)

    producer.begin_transaction()
    error = raised(lambda: producer.send_offsets_to_transaction([TopicPartition(name, 0, 1)], older, SECONDS))
    assert error.code() == KafkaError.ILLEGAL_GENERATION
    assert error.txn_requires_abort()
    producer.abort_transaction(SECONDS)

    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(name, 0, 1)], first.metadata, SECONDS)
    producer.commit_transaction(SECONDS)


def test_a_member_whose_session_ended_cannot_commit_and_is_told_that_it_lost_its_places(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 2)
    zombie = opened.member(name, "a", [name], session=LAPSE)
    until(lambda: zombie.places, zombie)
    cluster.let_session_end(name, "a")
    other = opened.member(name, "b", [name])
    until(lambda: other.places, other)
    assert len(other.places or ()) == 2
    producer = opened.producer(name)
    producer.begin_transaction()

    error = raised(lambda: producer.send_offsets_to_transaction([TopicPartition(name, 0, 1)], zombie.metadata, SECONDS))

    assert error.code() == KafkaError.UNKNOWN_MEMBER_ID
    assert error.txn_requires_abort()
    producer.abort_transaction(SECONDS)
    until(lambda: len(zombie.told) == 3, zombie, other)
    assert [what for what, _ in zombie.told] == ["assigned", "lost", "assigned"]
    assert zombie.places == [(name, 0)]


def test_a_second_member_of_one_static_id_takes_the_places_and_the_first_one_ends(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 2)
    first = opened.member(name, "a", [name])
    other = opened.member(name, "b", [name])
    until(lambda: first.places and other.places, first, other)
    until(lambda: len(first.places or ()) == 1 and len(other.places or ()) == 1, first, other)
    others_history = list(other.told)

    second = opened.member(name, "a", [name])
    until(lambda: second.places, second, other)
    until(lambda: first.errors, first, second, other)

    assert second.places == first.places
    assert other.told == others_history, "no rebalance"
    assert first.errors[0].code() == KafkaError._FATAL
    assert "fenced" in first.errors[0].str()
    producer = opened.producer(name)
    producer.begin_transaction()
    error = raised(lambda: producer.send_offsets_to_transaction([TopicPartition(name, 0, 1)], first.metadata, SECONDS))
    assert error.code() == KafkaError.FENCED_INSTANCE_ID
    assert error.txn_requires_abort()


def test_a_static_member_that_is_closed_finds_its_places_again(cluster: Cluster, opened: Opened, name: str) -> None:
    cluster.create(name, 2)
    first = opened.member(name, "a", [name])
    other = opened.member(name, "b", [name])
    until(lambda: len(first.places or ()) == 1 and len(other.places or ()) == 1, first, other)
    places, others_history = first.places, list(other.told)

    first.consumer.close()
    assert first.told[-1] == ("revoked", places)
    again = opened.member(name, "a", [name])
    until(lambda: again.places, again, other)

    assert again.places == places
    assert other.told == others_history, "no rebalance"


def test_a_second_producer_of_one_transactional_id_fences_the_first_and_aborts_its_transaction(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    cluster.create(f"{name}-in", 1)
    member = opened.member(name, "a", [f"{name}-in"])
    until(lambda: member.places, member)
    first = opened.producer(name)
    first.begin_transaction()
    produce(first, name, b"dropped")
    positions = [TopicPartition(f"{name}-in", 0, 1)]
    first.send_offsets_to_transaction(positions, member.metadata, SECONDS)

    second = opened.producer(name)

    assert member.consumer.committed([TopicPartition(f"{name}-in", 0)], SECONDS)[0].offset == -1001
    for call in (
        lambda: first.commit_transaction(SECONDS),
        lambda: first.abort_transaction(SECONDS),
    ):
        error = raised(call)
        assert error.code() == KafkaError._FENCED
        assert error.fatal()
    second.begin_transaction()
    produce(second, name, b"kept")
    second.commit_transaction(SECONDS)
    assert read_to_the_end(opened.reader(name, 0))[0] == [b"kept"]


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name, transaction_timeout_ms=1_000)
    producer.begin_transaction()
    produce(producer, name, b"dropped")
    everything = opened.reader(name, 0, "read_uncommitted")
    until_end(everything, name, 1)

    cluster.let_transaction_time_out(name, name)

    assert read_to_the_end(opened.reader(name, 0))[0] == []
    assert raised(lambda: producer.commit_transaction(SECONDS)).code() == KafkaError._FENCED
    error = raised(lambda: producer.abort_transaction(SECONDS))
    assert error.code() == KafkaError._FENCED
    assert error.fatal()


def test_a_commit_without_an_answer_may_be_asked_for_again(cluster: Cluster, opened: Opened, name: str) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name)
    producer.begin_transaction()
    produce(producer, name, b"kept")

    error = raised(lambda: cluster.commit_without_an_answer(producer))

    assert error.code() == KafkaError._TIMED_OUT
    assert error.retriable()
    assert raised(lambda: producer.abort_transaction(SECONDS)).code() != KafkaError._FENCED, "it cannot be taken back"
    producer.commit_transaction(SECONDS)
    assert read_to_the_end(opened.reader(name, 0))[0] == [b"kept"]


def test_without_a_transaction_there_is_nothing_to_commit_or_abort(cluster: Cluster, opened: Opened, name: str) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name)
    for call in (lambda: producer.commit_transaction(SECONDS), lambda: producer.abort_transaction(SECONDS)):
        assert raised(call).code() == KafkaError._STATE
    producer.begin_transaction()
    assert raised(producer.begin_transaction).code() == KafkaError._STATE
    producer.commit_transaction(SECONDS)


def test_a_message_over_the_clients_limit_is_refused_at_once(cluster: Cluster, opened: Opened, name: str) -> None:
    cluster.create(name, 1)
    producer = opened.producer(name, message_max_bytes=2_000)
    producer.begin_transaction()
    error = raised(lambda: produce(producer, name, b"v" * 1_001, key=b"k" * 1_000))
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    producer.abort_transaction(SECONDS)


def test_a_cluster_says_who_it_is_and_a_topic_made_again_is_another_one(
    cluster: Cluster, opened: Opened, name: str
) -> None:
    cluster.create(name, 3)
    cluster.append(name, b"1")
    member = opened.member(name, "a", [name])
    until(lambda: member.places, member)
    producer = opened.producer(name)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(name, 0, 1)], member.metadata, SECONDS)
    producer.commit_transaction(SECONDS)
    before = cluster.clients.describe([name])
    assert before.partitions == {name: 3}
    assert answered(cluster, name) == before.topic_ids

    cluster.delete(name)
    with pytest.raises(TopicMismatch, match=name):
        cluster.clients.describe([name])
    with pytest.raises(TopicMismatch, match=name):
        answered(cluster, name)
    cluster.create(name, 2)
    after = cluster.clients.describe([name])

    assert after.cluster_id == before.cluster_id
    assert after.topic_ids[name] != before.topic_ids[name]
    assert after.partitions == {name: 2}
    fresh = cluster.clients.consumer({"group.id": name, "isolation.level": "read_committed"})
    assert fresh.committed([TopicPartition(name, 0)], SECONDS)[0].offset == -1001
    fresh.close()
