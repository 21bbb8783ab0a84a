"""Alert rules over a Kafka in memory: counts are written, minutes go by, watches are stepped, killed and replaced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flyback import settings
from flyback.schemas import codec, wire
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Record
from flyback.streams.alert_watch import Watch
from flyback.streams.alert_webhook import Webhook
from flyback.streams.alerts.replay import Change, replay
from flyback.streams.alerts.rules import Rule
from flyback.streams.rates import MINUTE, Cell, Counts
from flyback.streams.topology import Topology
from tests.streams.alerts.counted import RUNNING
from tests.streams.kafka_double import MemoryKafka

CATALOG = BundledCatalog()
SINCE = RUNNING * MINUTE


def cell_key(partition: int, cell: Cell) -> bytes:
    return json.dumps([partition, *cell], separators=(",", ":"), ensure_ascii=False).encode()


def cell_value(partition: int, cell: Cell, counts: Counts) -> bytes:
    record = {"partition": partition, **cell._asdict(), **counts._asdict(), "derive_version": 1}
    return codec.encode("FailureRate", record, CATALOG.id_for("FailureRate", ""))


class AlertStage:
    """Two partitions of counts. It begins in the middle of the minute `RUNNING`."""

    def __init__(self, rules: Sequence[Rule], webhook: Webhook | None = None) -> None:
        self.rules = tuple(rules)
        self.webhook: Any = webhook
        self.settings = settings.load(partitions=2, topic_prefix="t.")
        self.topology = Topology(self.settings)
        self.kafka = MemoryKafka(SINCE // 1000 + 30_000)
        for name in self.topology.names:
            self.kafka.create(name, self.topology.partitions(name))
        self.alerts = self.topology.topic_of("Alert")
        self.history: list[Change] = []
        self._counts: dict[tuple[int, Cell], Counts] = {}

    def watch(self) -> Watch:
        return Watch(
            self.settings, self.topology, CATALOG, self.kafka, self.rules, self.webhook, lambda: self.kafka.now / 1000
        )

    def count(self, cell: Cell, change: Counts, partition: int = 0) -> None:
        """Write the absolute counts of a cell, as the engine does after something was added to them."""
        counts = self._counts.get((partition, cell), Counts()).plus(change)
        self._counts[partition, cell] = counts
        topic = self.topology.topic_of("FailureRate")
        self.kafka.append(topic, partition, cell_key(partition, cell), cell_value(partition, cell, counts))
        self.history.append(Change(self.kafka.now * 1000, cell, change))

    def next_minute(self) -> int:
        """Three seconds into the next minute, in microseconds the minute's begin."""
        minute = self.kafka.now // 60_000 * 60_000 + 60_000
        self.kafka.now = minute + 3_000
        return minute * 1000

    def pass_minutes(self, watch: Watch, many: int) -> None:
        for _ in range(many):
            self.next_minute()
            self.step(watch)

    def step(self, *watches: Watch, times: int = 4) -> None:
        for _ in range(times):
            for watch in watches:
                watch.step()

    def kill(self, watch: Watch) -> None:
        """The process is gone, and its session with it."""
        group = self.kafka.groups[self.topology.alert_group]
        if (member := group.members.get(watch._group._member)) is not None:  # type: ignore[attr-defined]
            group.leave(member)

    def written(self) -> list[Record]:
        """The alerts that a reader of committed messages sees."""
        schema = codec.bundled("Alert")
        values = [record.value or b"" for record in self.kafka.records(self.alerts)]
        return [codec.decode("Alert", value, schema) for value in values if value[:1] == wire.MAGIC]

    def expected(self, until: int) -> list[Record]:
        """What a replay of the same history gives."""
        return list(replay(self.rules, self.history, SINCE, until))

    def told(self) -> int:
        """The group's offset."""
        return self.kafka.groups[self.topology.alert_group].offsets[self.alerts, 0]


def brief(records: Sequence[Record]) -> list[tuple[int, str]]:
    """The minute, from the first one on, and the state."""
    return [(record["occurred_at"] // MINUTE - RUNNING, record["state"]) for record in records]
