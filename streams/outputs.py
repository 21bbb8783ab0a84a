"""What the engine writes: derived events, counts, dead letters and progress, as messages ready to produce."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flyback.errors import InvalidEvent
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import dlq, join_columns
from flyback.streams.clients import Cluster, Headers, Message
from flyback.streams.join import DERIVE_VERSION, Derived
from flyback.streams.matcher import Pair
from flyback.streams.messages import Message as ValidMessage
from flyback.streams.rates import Cell, Counts
from flyback.streams.topology import Topology

TRACEPARENT = "traceparent"
_LARGEST = 2**63 - 1  # of an Avro long
_ROOM = 4_096  # what headers and record take beside


@dataclass(frozen=True, slots=True)
class Output:
    """One message to produce. `reason` is set for a dead letter, `source` is the raw topic it comes from."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
    source: str = ""
    reason: str = ""


class Outputs:
    """Builds outputs with the schema ids of this process's catalog. Raises RegistryUnavailable at construction."""

    def __init__(self, settings: Settings, topology: Topology, catalog: Catalog) -> None:
        self._settings = settings
        self._topology = topology
        records = ("Example", "GradedExample", "Coaching", "FailureRate", "Progress")
        self._topics = {record: topology.topic_of(record) for record in records}
        self._ids = {record: catalog.id_for(record, topic) for record, topic in self._topics.items()}

    def pairs(self, pairs: Sequence[Pair]) -> Iterator[Output]:
        """The derived event of each pair, or the dead letter of its feedback where the pair is too large."""
        for pair, derived in zip(pairs, join_columns.bodies(pairs), strict=True):
            if derived is None:
                yield self.pair(pair.derived, pair.feedback)
            else:
                record, body = derived
                yield self._of_pair(record, wire.frame(self._ids[record], body), pair.feedback)

    def pair(self, derived: Derived, feedback: ValidMessage) -> Output:
        """The same for a derived event, and the feedback of its pair."""
        return self._of_pair(derived.record, self._encode(derived.record, derived.event), feedback)

    def _of_pair(self, record: str, value: bytes, feedback: ValidMessage) -> Output:
        key = feedback.task_id.encode()
        size, limit = len(key) + len(value) + len(feedback.traceparent), self._topology.derived_max_bytes
        if size + _ROOM > limit:
            text = f"its derived event would have {size} bytes with its key, the derived topics take {limit}"
            return self.rejected(feedback, InvalidEvent("pair_too_large", "", text))
        return Output(
            self._topics[record],
            feedback.partition,
            key,
            value,
            [(TRACEPARENT, feedback.traceparent)] if feedback.traceparent else None,
            source=feedback.topic,
        )

    def rate(self, partition: int, cell: Cell, counts: Counts) -> Output:
        """The absolute counts of a cell, into the partition that was counted."""
        event = {
            "partition": partition,
            **cell._asdict(),
            **{name: min(count, _LARGEST) for name, count in counts._asdict().items()},
            "derive_version": DERIVE_VERSION,
        }
        key = json.dumps([partition, *cell], separators=(",", ":"), ensure_ascii=False).encode()
        return Output(self._topics["FailureRate"], partition, key, self._encode("FailureRate", event))

    def progress(self, cluster: Cluster, topic: str, partition: int, next_offset: int) -> Output:
        """The second copy of a committed offset."""
        event = {
            "group": self._settings.group,
            "topic": topic,
            "partition": partition,
            "next_offset": next_offset,
            "cluster_id": cluster.cluster_id,
            "topic_id": cluster.topic_ids[topic],
        }
        key = json.dumps([self._settings.group, topic, partition], separators=(",", ":")).encode()
        return Output(self._topics["Progress"], 0, key, self._encode("Progress", event))

    def refused(self, message: Message, error: InvalidEvent) -> Output:
        """The dead letter of a raw message that is no valid event."""
        headers = wire.headers(message)
        return self._letter(
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            headers,
            error,
        )

    def rejected(self, message: ValidMessage, error: InvalidEvent) -> Output:
        """The dead letter of a valid event that cannot be used: a conflict, or half of a pair too large."""
        headers = message.headers or ([(TRACEPARENT, message.traceparent)] if message.traceparent else [])
        place = message.topic, message.partition, message.offset, message.arrived_at
        return self._letter(*place, message.task_id.encode(), message.value, headers, error)

    def _letter(
        self,
        topic: str,
        partition: int,
        offset: int,
        arrived_at: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        error: InvalidEvent,
    ) -> Output:
        letter, described = dlq.letter(
            topic,
            partition,
            offset,
            arrived_at,
            value,
            headers,
            error.reason,
            str(error),
            self._settings.max_event_bytes,
        )
        name = self._topology.dead_letters_of(topic)
        return Output(name, partition, key, letter, described, source=topic, reason=error.reason)

    def _encode(self, record: str, event: codec.Record) -> bytes:
        return codec.encode(record, event, self._ids[record])
