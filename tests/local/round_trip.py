"""Create a topic, send one message, read it back: what "the broker works" means in these tests."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# A broker that a test stops is not worth a line on stderr for each attempt to reconnect.
QUIET = {"log_level": 0}


def send(client_config: Mapping[str, str], topic: str, value: bytes) -> None:
    """Create the topic, with one partition, and write one message that the broker acknowledged."""
    admin = AdminClient({**client_config, **QUIET})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    errors = []
    producer = Producer({**client_config, **QUIET, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None]


def first_message(client_config: Mapping[str, str], topic: str) -> bytes | None:
    """The value of the topic's first message; raises `KafkaException` if it cannot be read."""
    consumer = Consumer({**client_config, **QUIET, "group.id": "round-trip"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20)
        assert message is not None, f"nothing to read in {topic}"
        if error := message.error():
            raise KafkaException(error)
        return message.value()
    finally:
        consumer.close()
