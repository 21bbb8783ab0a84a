"""The limits, as processes: confluent-kafka that only consumes all raw events, or only produces as many.

python -m benchmarks.raw consume FOLDER      (which holds job.json)
python -m benchmarks.raw produce FOLDER
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.job import PARTITIONS, Job
from benchmarks.workload import Expected, bulk_producer, messages, send
from flyback.streams.topology import Topology

_VALUES = 2_000


def consume(job: Job, folder: Path) -> None:
    """Read every raw topic to its end; how much there was goes to found.json."""
    settings = job.settings(folder)
    consumer = Consumer({**settings.kafka(), "group.id": job.group, "enable.auto.commit": False})
    events = size = 0
    for number in range(1, job.rounds + 1):
        consumer.assign([TopicPartition(t, p, 0) for t in Topology(settings).raw for p in range(PARTITIONS)])
        while left := number * job.events - events:
            for message in consumer.consume(min(left, 5_000), 1.0):
                if message.error() is None:
                    events += 1
                    size += len(message.value() or b"")
    consumer.close()
    (folder / "found.json").write_text(json.dumps({"events": events, "bytes": size}), encoding="utf-8")


def produce(job: Job, folder: Path) -> None:
    """Write so many raw events' values to the examples topic, idempotently; encoding them is done for a few only."""
    settings = job.settings(folder)
    producer = bulk_producer(settings)
    topic = Topology(settings).topic_of("Example")
    made = [(partition, key, value) for _, partition, key, value in messages(_VALUES, PARTITIONS, Expected())]
    for message in itertools.islice(itertools.cycle(made), job.events * job.rounds):
        send(producer, topic, *message)
    assert producer.flush(120) == 0, "not everything was acknowledged"


if __name__ == "__main__":
    chosen, where = {"consume": consume, "produce": produce}[sys.argv[1]], Path(sys.argv[2])
    chosen(Job.read(where), where)
