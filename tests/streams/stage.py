"""A cluster in memory with Flyback's topics, and workers over it that a test drives step by step."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flyback import settings
from flyback.schemas.catalog import BundledCatalog, Catalog
from flyback.streams.engine import Engine
from flyback.streams.state import Store, Writes
from flyback.streams.topology import Topology, partition_for
from tests.strategies import EPOCH_MS, WINDOW_MS
from tests.streams.kafka_double import MemoryKafka
from tests.streams.kafka_double_broker import Place
from tests.streams.records import Raw
from tests.streams.verdict import Stored, Verdict, letter_of


class Worker:
    """One worker with a state folder of its own. `step` and `start` raise what the engine raises."""

    def __init__(self, stage: Stage, name: str, **changed: Any) -> None:
        self.name = name
        self.folder = stage.folder / name
        self._stage = stage
        self._changed = changed
        self.accepts_loss = False
        self.engine: Engine | None = None

    def start(self) -> Worker:
        stage = self._stage
        found = stage.settings.model_copy(update={"state_dir": self.folder, **self._changed})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "worker_id").write_text(self.name, encoding="utf-8")
        self.engine = Engine(found, stage.topology, stage.catalog, stage.kafka, stage.clock, self.accepts_loss)
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

    def stored(self, topic: str) -> Iterator[Stored]:
        """All committed records, also what retention has deleted since."""
        for partition, log in enumerate(self.kafka.logs[topic]):
            for r in log.records[: log.stable]:
                if r.visible:
                    yield Stored(partition, r.offset, r.key, r.value, r.headers, r.timestamp)

    def verdict(self) -> Verdict:
        return Verdict(self.settings, self.stored, self.catalog)

    def check(self) -> None:
        """Stream equals batch."""
        self.verdict().check()

    def derived(self) -> Counter[str]:
        """The content of the derived topics."""
        return self.verdict().derived()

    def reasons(self) -> list[str]:
        """Why messages were dead-lettered."""
        return [letter_of(record).reason for record in self.verdict().letters()]
