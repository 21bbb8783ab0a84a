"""A header whose name is no text, on the embedded broker: confluent-kafka gives such a name as no Python object."""

from __future__ import annotations

import os
import subprocess
import sys

from confluent_kafka import Consumer, TopicPartition

from flyback import topics
from flyback.schemas import wire
from flyback.settings import load
from flyback.streams.topology import Topology

PRODUCER = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class NoText(str):
    def encode(self, *_):
        return b"\\xff\\xfe"

async def produce():
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[1])
    await producer.start()
    await producer.send_and_wait(sys.argv[2], b"value", partition=0, headers=[(NoText("x"), b"1"), ("y", b"2")])
    await producer.send_and_wait(sys.argv[2], b"value", partition=0, headers=[("y", b"2")])
    await producer.stop()

asyncio.run(produce())
"""


def test_the_headers_of_a_message_with_such_a_name_are_left_out_and_others_are_kept(
    embedded_bootstrap: str, topic_prefix: str
) -> None:
    settings = load(bootstrap_servers=embedded_bootstrap, topic_prefix=topic_prefix)
    topics.create(settings)
    topic = Topology(settings).topic_of("Prediction")
    # its own encoder in Python asks the name for its bytes, the one in C does not
    environment = {**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}
    subprocess.run([sys.executable, "-c", PRODUCER, embedded_bootstrap, topic], env=environment, check=True, timeout=60)
    consumer = Consumer(settings.kafka() | {"group.id": "none"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    odd, usual = consumer.consume(2, timeout=30)
    for _ in range(1000):  # the interpreter calls methods otherwise once they are often called
        assert wire.headers(usual) == [("y", b"2")]
    assert not wire.headers(odd)
    assert not wire.headers(odd)
    consumer.seek(TopicPartition(topic, 0, 0))
    assert wire.all_headers(consumer.consume(2, timeout=30)) == [[], [("y", b"2")]]
    consumer.close()
