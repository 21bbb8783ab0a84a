"""Messages that are kept part by part are the same messages."""

from __future__ import annotations

from confluent_kafka import Message as KafkaMessage

from flyback.sinks.buffer import Buffer
from flyback.sinks.message import Message, Messages

FOUND = [
    Message("a", 0, 7, 1_000, b"k", b"value", [("traceparent", b"00-1")]),
    Message("a", 1, 3, 1_001, None, b"other", []),
    Message("b", 0, 9, -1, b"k", None, []),
    Message("a", 0, 8, 1_002, b"k", b"v", []),
]


def consumed(message: Message) -> KafkaMessage:
    topic, partition, offset, arrived_at, key, value, headers = message
    return KafkaMessage(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=(1, arrived_at),
        key=key,
        value=value,
        headers=list(headers) or None,
    )


def test_what_is_consumed_is_what_is_kept() -> None:
    of_one_topic = [message for message in FOUND if message.topic == "a"]
    assert list(Messages.consumed("a", list(map(consumed, of_one_topic)))) == of_one_topic
    assert list(Messages.consumed("a", [])) == []


def test_single_messages_are_found_again() -> None:
    messages = Messages.of(FOUND[:1])
    messages.extend(Messages.of(FOUND[1:]))
    assert (len(messages), list(messages), messages[2]) == (4, FOUND, FOUND[2])
    assert list(messages.only([1, 3])) == [FOUND[1], FOUND[3]]
    assert messages.only([0, 1, 2, 3]) is messages


def test_a_buffer_knows_its_bytes_and_where_each_partition_goes_on() -> None:
    buffer = Buffer(committed={("a", 0): 7, ("b", 0): 20})
    buffer.add(Messages.of(FOUND), 5.0)
    assert buffer.size == len(b"kvaluek" + b"other" + b"kv") + 4 * 300
    assert buffer.reached == {("a", 0): 9, ("a", 1): 4}
    assert buffer.since == 5.0
