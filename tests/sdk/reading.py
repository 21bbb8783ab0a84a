"""What the SDK wrote, read with nothing of Flyback's: confluent-kafka, fastavro and the .avsc files."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

SCHEMAS = Path(__file__).parents[2] / "schemas"
AVSC = {"predictions": "prediction", "corrections": "correction", "grades": "grade"}
NO_LEADER_YET = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


@dataclass(frozen=True)
class Found:
    """One message, its value decoded."""

    event: dict[str, Any]
    schema_id: int
    key: bytes
    partition: int
    timestamp: tuple[int, int]
    headers: list[tuple[str, bytes]]


def avsc(stem: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{stem}.avsc").read_text(encoding="utf-8"))
    return found


def read(bootstrap: str, prefix: str, kind: str, count: int, partitions: int = 4) -> list[Found]:
    """All `count` messages of `predictions`, `corrections` or `grades`; fails where there are fewer or more."""
    topic, schema = f"{prefix}{kind}.v1", fastavro.parse_schema(avsc(AVSC[kind]))
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{prefix}reading", "auto.offset.reset": "earliest"}
    )
    found: list[Found] = []
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        deadline = time.monotonic() + 30
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} messages in {topic}"
            for message in consumer.consume(count - len(found), timeout=0.5):
                assert message.error() is None, message.error()
                value = message.value()
                assert value is not None and value[0] == 0
                body = io.BytesIO(value[5:])
                event = fastavro.schemaless_reader(body, schema, None)
                assert not body.read(), "bytes follow the event"
                assert isinstance(event, dict)
                key, partition = message.key(), message.partition()
                assert isinstance(key, bytes) and partition is not None
                headers = [(str(pair[0]), bytes(pair[1])) for pair in message.headers() or []]  # type: ignore[arg-type]
                schema_id = int.from_bytes(value[1:5], "big")
                found.append(Found(event, schema_id, key, partition, message.timestamp(), headers))
        ends = [_end(consumer, TopicPartition(topic, p), deadline) for p in range(partitions)]
        assert sum(ends) == count, f"{topic} holds more than {count} messages"
    finally:
        consumer.close()
    return found


def _end(consumer: Consumer, place: TopicPartition, deadline: float) -> int:
    """The offset after the last message. A topic that was just made may still look for its leader."""
    while True:
        try:
            return (consumer.get_watermark_offsets(place, timeout=10) or (0, 0))[1]
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
