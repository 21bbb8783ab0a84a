"""One partition's share of a batch: which pairs it completes, and what the state must remember of it.

Symmetric: a prediction looks for feedback that waits for it, a feedback for its prediction. Nothing is written here;
the engine writes what `match` returns after its transaction is committed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flyback.schemas import codec, wire
from flyback.schemas.codec import Schema
from flyback.streams import state
from flyback.streams.clients import Headers
from flyback.streams.join import FEEDBACK_ID, Arrived, Derived, derive, fingerprint, within
from flyback.streams.rates import Cell, Counts, cell_of, closes_at, prediction_counts
from flyback.streams.state import Entry, Meta, Store


@dataclass(frozen=True, slots=True)
class Message:
    """A valid raw event with the bytes it came in, their schema, and the trace it belongs to.

    All its headers are there only while it is new: the state keeps the trace.
    """

    arrived: Arrived
    value: bytes
    schema: Schema
    traceparent: bytes = b""
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A derived event, the feedback that it comes from, and the trace it belongs to."""

    derived: Derived
    feedback: Message


@dataclass(slots=True)
class Matched:
    """What one partition's share of a batch comes to. `counts` are absolute, by changed cell."""

    pairs: list[Pair] = field(default_factory=list)
    conflicts: list[Message] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)
    counts: dict[Cell, Counts] = field(default_factory=dict)
    expired: int = 0
    writes: dict[bytes, bytes | None] = field(default_factory=dict)


class Matcher:
    """Matches against one partition's store. `topics` gives the raw topic's name by Avro record."""

    def __init__(self, store: Store, topics: dict[str, str], window_ms: int) -> None:
        self.store = store
        self.topics = topics
        self.window_ms = window_ms
        self.schemas: dict[int, Schema] = {}
        self.expired_to = state.EXPIRY

    def match(self, messages: Sequence[Message], meta: Meta) -> Matched:
        """Match the messages, in their topics' offset order, and forget what left the window by `meta`'s watermarks.

        `meta` is how far the partition will be after this batch; it is part of the writes.
        """
        step = _Step(self, messages)
        for message in messages:
            if message.arrived.record == "Prediction":
                step.prediction(message)
            else:
                step.feedback(message)
        step.keep_counts()
        step.expire(self._cutoff(meta), at_most=1_000 + 2 * len(messages))
        step.matched.writes[state.META] = meta.pack()
        return step.matched

    def _cutoff(self, meta: Meta) -> int | None:
        """Arrivals before this are outside every window still to come: the slowest topic has passed them."""
        if len(meta.watermarks) < len(self.topics):
            return None
        return min(meta.watermarks.values()) - self.window_ms


class _Step:
    """One batch over one store: reads see the batch's own writes."""

    def __init__(self, matcher: Matcher, messages: Sequence[Message]) -> None:
        self._matcher = matcher
        self._window_ms = matcher.window_ms
        self._waiting: dict[bytes, list[bytes]] = defaultdict(list)
        self._earliest: bytes | None = None
        self.matched = Matched()
        self._writes = self.matched.writes
        schemas = {state.schema_key(wire.schema_id(m.value)): m.schema for m in messages}
        keys = [*{key for message in messages for key in _keys(message.arrived)}, *schemas]
        self._known = dict(zip(keys, matcher.store.get(keys), strict=True))
        for key, schema in schemas.items():
            if self._known[key] is None:
                self._writes[key] = schema.text.encode()

    def prediction(self, message: Message) -> None:
        arrived = message.arrived
        episode = _episode(arrived)
        if not self._first_copy(state.PREDICTION + episode, message, keep=True):
            return
        cell = cell_of(arrived.event)
        if prediction_counts(cell, arrived.arrived_at, self._window_ms):
            self._count(cell, Counts(predictions=1))
        if self._get(state.WAITING + episode) is not None:
            for key, entry in self._feedback_waiting(episode):
                feedback = self._load(state.feedback_record(key), arrived.partition, entry)
                if within(arrived, feedback.arrived, self._window_ms):
                    self._writes[key] = entry._replace(value=b"", traceparent=b"").pack()
                    self._pair(message, feedback)
            self._writes[state.WAITING + episode] = None

    def feedback(self, message: Message) -> None:
        arrived = message.arrived
        episode = _episode(arrived)
        stored = self._get(state.PREDICTION + episode)
        key = _feedback_key(arrived)
        if not self._first_copy(key, message, keep=stored is None):
            return
        if stored is None:
            self._waiting[episode].append(key)
            self._mark_waiting(episode, arrived.arrived_at)
            return
        prediction = self._load("Prediction", arrived.partition, Entry.unpack(stored))
        if within(prediction.arrived, arrived, self._window_ms):
            self._pair(prediction, message)

    def keep_counts(self) -> None:
        for cell, counts in self.matched.counts.items():
            self._writes[state.cell_key(cell)] = state.pack_counts(counts)

    def expire(self, cutoff: int | None, at_most: int) -> None:
        """Delete what arrived before `cutoff` (ms), at most so many entries in one batch."""
        if cutoff is None:
            return
        store, start = self._matcher.store, self._matcher.expired_to
        if store.get([start])[0] is not None:
            start = state.EXPIRY  # the batch that deleted this key was dropped
        end = state.expiry_key(cutoff, b"")
        due: list[bytes] = []
        for key, _ in store.scan(state.EXPIRY, start=start):
            if key >= end or len(due) == at_most:
                break
            due.append(key)
        for key in due:
            target = key[9:]
            self._writes[key] = None
            if target[:1] == state.WAITING:
                marked = self._get(target)
                if marked is None or key < state.expiry_key(state.unpack_time(marked), b""):
                    continue
            self._writes[target] = None
            if target[:1] == state.PREDICTION:
                self._writes[state.REVIEW + target[1:]] = None
        reached = due[-1] if due else start
        # a batch that spans more than a window holds entries that are due already: the next scan must see them
        self._matcher.expired_to = min(reached, self._earliest or reached)
        self.matched.expired = len(due)

    def _first_copy(self, key: bytes, message: Message, keep: bool) -> bool:
        """Remember a first copy, with its bytes where `keep`; tell duplicates and conflicts apart from it."""
        content = fingerprint(message.arrived.event)
        stored = self._get(key)
        if stored is not None:
            if Entry.unpack(stored).fingerprint == content:
                self.matched.duplicates[message.arrived.topic] += 1
            else:
                self.matched.conflicts.append(message)
            return False
        at = message.arrived.arrived_at
        entry = Entry(at, message.arrived.offset, content)
        if keep:
            entry = entry._replace(traceparent=message.traceparent, value=message.value)
        self._writes[key] = entry.pack()
        self._forget_after(at, key)
        return True

    def _pair(self, prediction: Message, feedback: Message) -> None:
        self.matched.pairs.append(Pair(derive(prediction.arrived, feedback.arrived), feedback))
        cell = cell_of(prediction.arrived.event)
        if not prediction_counts(cell, prediction.arrived.arrived_at, self._window_ms):
            return
        if feedback.arrived.arrived_at >= closes_at(cell, self._window_ms):
            return
        key = state.REVIEW + _episode(prediction.arrived)
        before = state.unpack_review(self._get(key))
        after = before.with_feedback(feedback.arrived.record, feedback.arrived.event)
        if after is not before:
            self._writes[key] = state.pack_review(after)
            self._count(cell, after.counts().minus(before.counts()))

    def _count(self, cell: Cell, change: Counts) -> None:
        counts = self.matched.counts.get(cell)
        if counts is None:
            key = state.cell_key(cell)
            stored = self._get(key)
            if stored is None:
                self._forget_after(closes_at(cell, self._window_ms) - self._window_ms, key)
            counts = Counts() if stored is None else state.unpack_counts(stored)
        self.matched.counts[cell] = counts.plus(change)

    def _mark_waiting(self, episode: bytes, arrived_at: int) -> None:
        key = state.WAITING + episode
        marked = self._get(key)
        if marked is None or state.unpack_time(marked) < arrived_at:
            self._writes[key] = state.pack_time(arrived_at)
            self._forget_after(arrived_at, key)

    def _forget_after(self, milliseconds: int, key: bytes) -> None:
        """Let a key be deleted once the slowest topic is one window past this time."""
        expiry = state.expiry_key(milliseconds, key)
        self._writes[expiry] = b""
        if self._earliest is None or expiry < self._earliest:
            self._earliest = expiry

    def _feedback_waiting(self, episode: bytes) -> Iterator[tuple[bytes, Entry]]:
        keys = [key for key, _ in self._matcher.store.scan(state.FEEDBACK + episode)]
        for key in (*keys, *self._waiting[episode]):
            stored = self._get(key)
            if stored is not None and (entry := Entry.unpack(stored)).value:
                yield key, entry

    def _load(self, record: str, partition: int, entry: Entry) -> Message:
        """A stored first copy as the message that it was."""
        schemas = self._matcher.schemas
        schema_id = wire.schema_id(entry.value)
        if schema_id not in schemas:
            stored = self._get(state.schema_key(schema_id))
            assert stored is not None, "a schema is written together with the first bytes that need it"
            schemas[schema_id] = Schema(stored.decode())
        event = codec.decode(record, entry.value, schemas[schema_id])
        arrived = Arrived(record, event, self._matcher.topics[record], partition, entry.offset, entry.arrived_at)
        return Message(arrived, entry.value, schemas[schema_id], entry.traceparent)

    def _get(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        if key not in self._known:
            self._known[key] = self._matcher.store.get([key])[0]
        return self._known[key]


def _episode(arrived: Arrived) -> bytes:
    return state.episode_of(arrived.event["task_id"], arrived.event["prediction_id"])


def _feedback_key(arrived: Arrived) -> bytes:
    record = arrived.record
    return state.feedback_key(_episode(arrived), record, arrived.event[FEEDBACK_ID[record]])


def _keys(arrived: Arrived) -> list[bytes]:
    """What matching this event will look up, so that a whole batch is looked up at once."""
    episode = _episode(arrived)
    keys = [state.PREDICTION + episode, state.WAITING + episode]
    if arrived.record != "Prediction":
        keys += [_feedback_key(arrived), state.REVIEW + episode]
    return keys
