"""How fast a worker that lost its state has it again, beside a consumer that only reads the same topics.

Real Kafka, four partitions, about 1 KB an event. The group has processed everything; the state folder is empty. Both
contenders are whole processes, in turn; the restored state is checked, and a wrong one ends the run.

    python -m benchmarks.restore --events 400000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.workload import Expected, messages
from flyback import settings as configuration
from flyback import topics
from flyback.local.kafka import KafkaBroker
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.streams import entries, state
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.garbage import collect_rarely
from flyback.streams.topology import Topology

Figures = dict[str, float]


def main() -> int:
    """Prints one line a contender and run, or JSON."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.restore", description=__doc__)
    options.add_argument("--events", type=int, default=400_000, help="raw events in the topics")
    options.add_argument("--runs", type=int, default=3, help="how often each contender runs")
    options.add_argument("--bootstrap", help="a Kafka that is running; else one is started")
    options.add_argument("--json", action="store_true", help="figures as JSON")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="flyback-restore-") as folder:
        if given.bootstrap:
            results = measure(given.bootstrap, Path(folder), given.events, given.runs)
        else:
            with KafkaBroker(Path(folder) / "kafka") as broker:
                results = measure(broker.bootstrap, Path(folder), given.events, given.runs)
    if given.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    else:
        sys.stdout.write("".join(_line(name, one) for name, runs in results.items() for one in runs))
    return 0


def measure(bootstrap: str, folder: Path, events: int, runs: int) -> dict[str, list[Figures]]:
    """Fill new topics, then run the contenders in turn."""
    prefix = f"bench-{uuid4().hex[:8]}."
    changed: dict[str, Any] = {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": 4, "group": prefix}
    settings = configuration.load(**changed)
    topics.create(settings)
    expected = Expected()
    ends = fill(settings, events, expected)
    commit(settings, ends)
    total = sum(ends.values())
    results: dict[str, list[Figures]] = {"raw consume": [], "restore": []}
    for run in range(runs):
        results["raw consume"].append(_apart(_consume, changed, ends) | {"events": total})
        state_dir = folder / f"state-{run}"
        found = _apart(_restore, changed | {"state_dir": state_dir}, ends)
        check(state_dir, settings, expected)
        results["restore"].append(found | {"events": total})
    return results


def fill(settings: Settings, events: int, expected: Expected) -> dict[tuple[str, int], int]:
    """Send the workload; the logs' ends by topic and partition."""
    topology = Topology(settings)
    producer = Producer(
        {**settings.kafka(), "linger.ms": 20, "compression.type": settings.compression, "enable.idempotence": True}
    )
    ends: Counter[tuple[str, int]] = Counter({(t, p): 0 for t in topology.raw for p in range(settings.partitions)})
    for record, partition, key, value in messages(events, settings.partitions, expected):
        topic = topology.topic_of(record)
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.1)
        ends[topic, partition] += 1
    assert producer.flush(120) == 0
    return dict(ends)


def commit(settings: Settings, ends: dict[tuple[str, int], int]) -> None:
    """Leave the group where a worker that has processed everything leaves it."""
    consumer = Consumer({**settings.kafka(), "group.id": settings.group})
    consumer.commit(offsets=[TopicPartition(*place, end) for place, end in ends.items()], asynchronous=False)
    consumer.close()


def check(state_dir: Path, settings: Settings, expected: Expected) -> None:
    """Raises AssertionError where the restored state is not what the events come to."""
    folder = state.StateFolder(state_dir)
    predictions = feedback = counted = reviewed = 0
    for number in range(settings.partitions):
        store = folder.store(number)
        predictions += sum(1 for _ in store.scan(entries.PREDICTION))
        feedback += sum(1 for _ in store.scan(entries.FEEDBACK))
        for _, packed in store.scan(entries.CELL):
            counts = entries.unpack_counts(packed)
            counted += counts.predictions
            reviewed += counts.reviewed
    folder.close()
    found = predictions, feedback, counted, reviewed
    wanted = expected.predictions, expected.feedback, expected.predictions, len(expected.reviewed)
    assert found == wanted, f"restored {found}, expected {wanted}"


def _apart(work: Callable[..., None], *arguments: Any) -> Figures:
    """Run it in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        found: Figures = ours.recv()
    finally:
        process.join(60)
    return found


def _consume(answer: Any, changed: dict[str, Any], ends: dict[tuple[str, int], int]) -> None:
    settings = configuration.load(**changed)
    consumer = Consumer({**settings.kafka(), "group.id": f"raw-{uuid4().hex}", "enable.auto.commit": False})
    began, cpu = time.perf_counter(), time.process_time()
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
    left, size = sum(ends.values()), 0
    while left:
        for message in consumer.consume(5_000, 1.0):
            size += len(message.value() or b"")
            left -= 1
    answer.send(_figures(began, cpu) | {"bytes": float(size)})
    consumer.close()


def _restore(answer: Any, changed: dict[str, Any], ends: dict[tuple[str, int], int]) -> None:
    settings = configuration.load(**changed)
    collect_rarely()  # as the worker does
    engine = Engine(settings, Topology(settings), BundledCatalog(), KafkaClients(settings))
    began, cpu = time.perf_counter(), time.process_time()
    while not engine.status()["assigned"]:  # joining the group is no part of restoring
        if engine.status()["worker_id"] is None:
            engine.start()
        began, cpu = time.perf_counter(), time.process_time()
        engine.step()
    while engine.status()["restoring"]:
        engine.step()
    found = _figures(began, cpu)
    engine.close()
    answer.send(found)


def _figures(began: float, cpu: float) -> Figures:
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _line(name: str, one: Figures) -> str:
    rate, per_cpu = one["events"] / one["seconds"], one["events"] / one["cpu_seconds"]
    return f"{name:12} {rate:10,.0f} events/s {per_cpu:10,.0f} per CPU-second {one['rss_mb']:6,.0f} MB\n"


if __name__ == "__main__":
    sys.exit(main())
