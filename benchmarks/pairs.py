"""What the raw topics derive, by one pass of `join.batch`, and whether a contender has written exactly that."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterator
from typing import NamedTuple

from confluent_kafka import Message

from benchmarks.contest import Void
from flyback import history
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


def reference(settings: Settings, reviewed: Container[str]) -> Pairs:
    """All pairs in the raw topics; `reviewed` are the tasks that have feedback, others need not be decoded."""
    topology = Topology(settings)
    derived = batch(_arrived(settings, topology, reviewed), settings.join_window).derived
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


def _arrived(settings: Settings, topology: Topology, reviewed: Container[str]) -> Iterator[Arrived]:
    for message in history.read(settings, topology.raw):
        if (message.key() or b"").decode() in reviewed:
            record = topology[str(message.topic())].record or ""
            event = codec.decode(record, message.value() or b"", bundled(record))
            yield Arrived(record, event, *_place(message))


def _place(message: Message) -> tuple[str, int, int, int]:
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0), message.timestamp()[1]


def _pair(record: str, event: Record) -> Pair:
    story = {name: value for name, value in event.items() if name not in _SOURCES}
    return Pair(_digest([record, story]), _digest([event[name] for name in _SOURCES]))


def _digest(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:16]
