"""A cluster in memory with Flyback's topics, and workers over it that a test drives step by step."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flyback import settings
from flyback.errors import InvalidEvent
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog, Catalog
from flyback.schemas.intake import accept
from flyback.streams import dlq, join, rates
from flyback.streams.engine import Engine
from flyback.streams.join import Arrived
from flyback.streams.rates import Cell, Counts
from flyback.streams.state import Store, Writes
from flyback.streams.topology import Kind, Topology, partition_for
from tests.strategies import EPOCH_MS, WINDOW_MS
from tests.streams.kafka_double import MemoryKafka
from tests.streams.kafka_double_broker import Place, Record
from tests.streams.records import Raw

Letter = tuple[str, int, int, str]
"""Topic, partition and offset of a refused message, and the reason."""


class Worker:
    """One worker with a state folder of its own. `step` and `start` raise what the engine raises."""

    def __init__(self, stage: Stage, name: str, **changed: Any) -> None:
        self.name = name
        self.folder = stage.folder / name
        self._stage = stage
        self._changed = changed
        self.engine: Engine | None = None

    def start(self) -> Worker:
        stage = self._stage
        found = stage.settings.model_copy(update={"state_dir": self.folder, **self._changed})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "worker_id").write_text(self.name, encoding="utf-8")
        self.engine = Engine(found, stage.topology, stage.catalog, stage.kafka, stage.clock)
        self.engine.start()
        return self

    def step(self, times: int = 1) -> None:
        if self.engine is None:
            self.start()
        for _ in range(times):
            assert self.engine is not None
            self._stage.passed += 0.01
            self.engine.step()

    def stop(self) -> None:
        """In good order; the group keeps its static membership."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def kill(self) -> None:
        """The process is gone, with its locks. Nothing says good-bye to Kafka."""
        if self.engine is not None:
            if self.engine._folder is not None:
                self.engine._folder.close()
            self.engine = None

    def wipe(self) -> None:
        """Lose the state of a worker that does not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def applied(self) -> dict[Place, int]:
        """How far the states on disk are."""
        found: dict[Place, int] = {}
        if self.engine is not None and self.engine._folder is not None:
            for number, store in self.engine._folder._stores.items():
                if (meta := store.meta()) is not None:
                    found |= {(topic, number): offset for topic, offset in meta.applied.items()}
        return found


class Stage:
    """Topics, a clock, and what is in the topics. Settings by keyword."""

    def __init__(self, folder: Path, chance: random.Random | None = None, **changed: Any) -> None:
        self.folder = folder
        self.passed = 0.0
        self.seconds_a_look = 0.0
        """What goes by between two looks at the clock."""
        given = {"partitions": 2, "topic_prefix": "t.", "join_window": f"{WINDOW_MS}ms", "transaction_interval": "0ms"}
        self.settings = settings.load(**{**given, **changed})
        self.topology = Topology(self.settings)
        self.catalog: Catalog = BundledCatalog()
        self.kafka = MemoryKafka(EPOCH_MS, chance)
        for name in self.topology.names:
            self.kafka.create(name, self.topology.partitions(name))
        self.workers: dict[str, Worker] = {}

    @contextmanager
    def writes_planned(self) -> Iterator[None]:
        """Let `kafka.fail` and `kafka.interrupt` reach the state's `write` as well."""
        write = Store.write

        def planned(store: Store, writes: Writes) -> None:
            self.kafka.strike("before", "write", "")
            write(store, writes)
            self.kafka.strike("after", "write", "")

        with patch.object(Store, "write", planned):
            yield

    def clock(self) -> float:
        """Seconds, for the engine: Kafka's time, and what its steps took."""
        self.passed += self.seconds_a_look
        return self.kafka.now / 1000 + self.passed

    def worker(self, name: str = "a", **changed: Any) -> Worker:
        self.workers[name] = Worker(self, name, **changed)
        return self.workers[name]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()

    def place(self, message: Raw) -> Place:
        partition = partition_for(message.task.encode(), self.settings.partitions)
        return self.topology.topic_of(message.record), (partition + message.shift) % self.settings.partitions

    def send(self, *messages: Raw) -> int:
        """Append to the raw topics; the last one's offset."""
        offset = -1
        for message in messages:
            topic, partition = self.place(message)
            offset = self.kafka.append(topic, partition, message.key, message.value, message.headers)
        return offset

    def committed(self) -> dict[Place, int]:
        return dict(self.kafka.groups[self.settings.group].offsets)

    def is_quiet(self) -> bool:
        """Whether the group has processed all that can be read."""
        committed = self.committed()
        return all(
            record.offset < committed.get((topic, partition), 0)
            for topic in self.topology.raw
            for partition, log in enumerate(self.kafka.logs[topic])
            for record in log.records[log.start : log.stable]
            if record.visible
        ) and all(not w.engine.status()["restoring"] for w in self.workers.values() if w.engine is not None)

    def settle(self, *workers: Worker, steps: int = 300) -> None:
        """Step all of them until everything is processed."""
        for _ in range(steps):
            for worker in workers:
                worker.step()
            if self.is_quiet():
                return
        raise AssertionError(f"not quiet after {steps} steps: {[w.engine and w.engine.status() for w in workers]}")

    def raw_records(self) -> Iterator[tuple[str, int, Record]]:
        """What the raw topics hold, also what retention has deleted since."""
        for topic in self.topology.raw:
            for partition, log in enumerate(self.kafka.logs[topic]):
                yield from ((topic, partition, record) for record in log.records if record.visible)

    def derived(self) -> Counter[str]:
        """The content of the derived topics."""
        return Counter(
            _text(str(self.topology[topic].record), _decoded(str(self.topology[topic].record), record))
            for topic in self.topology.of(Kind.DERIVED)
            for record in self.kafka.records(topic)
        )

    def rates(self) -> dict[tuple[int, Cell], Counts]:
        """The last counts of each cell."""
        found = {}
        for record in self.kafka.records(self.topology.topic_of("FailureRate")):
            event = _decoded("FailureRate", record)
            cell = Cell(*(event[name] for name in Cell._fields))
            assert record.key is not None
            assert json.loads(record.key) == [event["partition"], *cell]
            found[event["partition"], cell] = Counts(*(event[name] for name in Counts._fields))
        return found

    def letters(self) -> Counter[Letter]:
        """What was dead-lettered."""
        return Counter(
            letter_of(record) for topic in self.topology.raw for record in self.kafka.records(f"{topic}.dlq")
        )

    def expected(self) -> tuple[Counter[str], dict[tuple[int, Cell], Counts], Counter[Letter]]:
        """What one pass over the raw topics gives: derived events, counts, dead letters."""
        valid: list[Arrived] = []
        letters: Counter[Letter] = Counter()
        for topic, partition, record in self.raw_records():
            name = str(self.topology[topic].record)
            try:
                event = accept(
                    name,
                    record.key,
                    record.value,
                    partition,
                    self.settings.partitions,
                    self.settings.max_event_bytes,
                    self.catalog,
                )
            except InvalidEvent as error:
                letters[topic, partition, record.offset, error.reason] += 1
            else:
                valid.append(Arrived(name, event, topic, partition, record.offset, record.timestamp))
        outcome = join.batch(valid, self.settings.join_window)
        letters.update((e.topic, e.partition, e.offset, "conflict") for e in outcome.conflicts)
        counts = rates.batch(outcome.first_copies.values(), self.settings.join_window)
        return Counter(_text(d.record, d.event) for d in outcome.derived), counts, letters

    def check(self) -> None:
        """Stream equals batch."""
        derived, counts, letters = self.expected()
        assert self.derived() == derived
        assert self.rates() == counts
        assert self.letters() == letters


def letter_of(record: Record) -> Letter:
    headers = {name: content or b"" for name, content in record.headers or ()}
    return (
        headers[dlq.TOPIC].decode(),
        int(headers[dlq.PARTITION]),
        int(headers[dlq.OFFSET]),
        headers[dlq.REASON].decode(),
    )


def _decoded(name: str, record: Record) -> codec.Record:
    assert record.value is not None
    return codec.decode(name, record.value, codec.bundled(name))


def _text(name: str, event: codec.Record) -> str:
    """The event as its reader sees it, comparable."""
    return json.dumps([name, codec.decode(name, codec.encode(name, event, 0), codec.bundled(name))], sort_keys=True)
