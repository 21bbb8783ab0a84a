"""What the raw topics derive, by one pass of `join.batch`, and whether a contender has written exactly that."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.contest import Void
from benchmarks.workload import Expected
from flyback import history
from flyback.history import Place
from flyback.schemas import codec
from flyback.schemas.codec import Record, bundled
from flyback.settings import Settings
from flyback.streams.join import Arrived, batch
from flyback.streams.topology import Kind, Topology

_SOURCES = ("prediction_source", "feedback_source")
_ID = {"Example": "example_id", "GradedExample": "graded_example_id"}


class Pair(NamedTuple):
    """Digests of a derived event: of its story, and of where both events stand."""

    story: bytes
    sources: bytes


Pairs = dict[str, Pair]
"""By the derived event's id."""


def reference(settings: Settings, expected: Expected, ends: Mapping[Place, int]) -> Pairs:
    """All pairs in the raw topics, of tasks that have feedback: others need not be decoded.

    Raises Void where not all was read that was sent, or where it does not derive what it should.
    """
    topology = Topology(settings)
    read: Counter[Place] = Counter()
    derived = batch(_arrived(settings, topology, expected, read), settings.join_window).derived
    if missing := {place: (read[place], end) for place, end in ends.items() if read[place] != end}:
        raise Void(f"read, and sent: {missing}")
    if len(derived) != expected.feedback:
        raise Void(f"the raw topics derive {len(derived)} pairs, but {expected.feedback} were sent")
    return {event.event[_ID[event.record]]: _pair(event.record, event.event) for event in derived}


def check(settings: Settings, wanted: Pairs, copies: bool = False) -> dict[str, int]:
    """Raises Void where the derived topics, read committed, do not hold each pair once and nothing else.

    With `copies` a pair may be there again, from a later copy of its events. Gives what was counted.
    """
    topology = Topology(settings)
    found: Counter[str] = Counter()
    size = 0
    for message in history.read(settings, topology.of(Kind.DERIVED)):
        record = topology[str(message.topic())].record or ""
        value = message.value() or b""
        event = codec.decode(record, value, bundled(record))
        pair_id, pair = str(event[_ID[record]]), _pair(record, event)
        if message.key() != event["task_id"].encode():
            raise Void(f"{record} {pair_id} has another key than its task")
        if pair_id not in wanted:
            raise Void(f"{record} {pair_id} is no pair of these events")
        if pair.story != wanted[pair_id].story or (not copies and pair != wanted[pair_id]):
            raise Void(f"{record} {pair_id} says something else than its two events")
        found[pair_id] += 1
        size += len(value)
    again = found.total() - len(found)
    if len(found) < len(wanted):
        raise Void(f"{len(wanted) - len(found)} of {len(wanted)} pairs are missing")
    if again and not copies:
        raise Void(f"{again} pairs were written more than once")
    return {"derived": found.total(), "again": again, "derived_bytes": size}


def _arrived(settings: Settings, topology: Topology, expected: Expected, read: Counter[Place]) -> Iterator[Arrived]:
    for message in history.read(settings, topology.raw):
        topic, partition = str(message.topic()), int(message.partition() or 0)
        read[topic, partition] += 1
        if (message.key() or b"").decode() in expected.reviewed:
            record = topology[topic].record or ""
            event = codec.decode(record, message.value() or b"", bundled(record))
            yield Arrived(record, event, topic, partition, int(message.offset() or 0), message.timestamp()[1])


def _pair(record: str, event: Record) -> Pair:
    story = {name: value for name, value in event.items() if name not in _SOURCES}
    return Pair(_digest([record, story]), _digest([event[name] for name in _SOURCES]))


def _digest(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:16]
