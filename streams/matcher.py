"""One partition's share of a batch: which pairs it completes, and what the state must remember of it.

Symmetric: a prediction looks for feedback that waits for it, a feedback for its prediction. Nothing is written here;
the engine writes what `match` returns after its transaction is committed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flyback.schemas import codec, content, wire
from flyback.schemas.codec import Schema
from flyback.streams import state
from flyback.streams.clients import Headers
from flyback.streams.join import FEEDBACK_ID, Arrived, Derived, derive, within
from flyback.streams.rates import Cell, Counts, Judgement, cell_of, closes_at, counted_arrivals, judgement_of
from flyback.streams.state import Entry, Meta, Store


class Message(NamedTuple):
    """A valid raw event: where it stands, what it is matched by, and the bytes it came in with their schema.

    All its headers are there only while it is new: the state keeps the trace.
    """

    record: str
    topic: str
    partition: int
    offset: int
    arrived_at: int
    task_id: str
    key: bytes
    """Of its first copy in the state."""
    cell: Cell | None
    """Where a prediction is counted."""
    judgement: Judgement | None
    """What a feedback says."""
    content: bytes
    """The fingerprint of a feedback; b"" where nobody has needed it yet."""
    value: bytes
    schema: Schema
    traceparent: bytes = b""
    headers: Headers = ()

    @classmethod
    def of(
        cls, arrived: Arrived, value: bytes, schema: Schema, traceparent: bytes = b"", headers: Headers = ()
    ) -> Message:
        """The message of an event that is decoded already."""
        event, record = arrived.event, arrived.record
        cell = judgement = None
        if record == "Prediction":
            key = state.prediction_key(event["task_id"], event["prediction_id"])
            cell = cell_of(event)
        else:
            feedback_id = event[FEEDBACK_ID[record]]
            key = state.feedback_key(state.episode_of(event["task_id"], event["prediction_id"]), record, feedback_id)
            judgement = judgement_of(record, event)
        place = arrived.topic, arrived.partition, arrived.offset, arrived.arrived_at
        return cls(record, *place, event["task_id"], key, cell, judgement, b"", value, schema, traceparent, headers)

    @property
    def episode(self) -> bytes:
        """The key of its episode."""
        return self.key[1:17]

    @property
    def arrived(self) -> Arrived:
        """The event itself, decoded from the bytes."""
        event = codec.decode(self.record, self.value, self.schema)
        return Arrived(self.record, event, self.topic, self.partition, self.offset, self.arrived_at)

    def fingerprint(self) -> bytes:
        """Of its content."""
        return self.content or content.fingerprint(self.record, self.arrived.event)


class Pair(NamedTuple):
    """Two first copies that belong together."""

    prediction: Message
    feedback: Message

    @property
    def derived(self) -> Derived:
        """What the pair derives."""
        return derive(self.prediction.arrived, self.feedback.arrived)


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
            if message.record == "Prediction":
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
        self._new: Counter[Cell] = Counter()
        self._arrivals: dict[Cell, range] = {}
        self._cell_keys: dict[Cell, bytes] = {}
        self._cells: dict[bytes, Cell] = {}
        self._earliest: bytes | None = None
        self.matched = Matched()
        self._writes = self.matched.writes
        schemas = {state.schema_key(wire.schema_id(header)): s for header, s in _headers(messages).items()}
        keys = [*_looked_up(messages), *schemas]
        self._known = dict(zip(keys, matcher.store.get(keys), strict=True))
        for key, schema in schemas.items():
            if self._known[key] is None:
                self._writes[key] = schema.text.encode()

    def prediction(self, message: Message) -> None:
        episode, cell = message.episode, message.cell
        assert cell is not None, "a prediction has one"
        stored = self._get(message.key)
        waited_for = stored is not None and state.is_mark(stored)
        if not self._is_new(message, None if waited_for else stored):
            return
        at, trace = message.arrived_at, message.traceparent
        self._keep(
            message, Entry(at, message.offset, traceparent=trace, value=message.value, cell=self._cell_key(cell))
        )
        if at in self._counted(cell):
            self._new[cell] += 1
        if waited_for:
            for key, entry in self._feedback_waiting(episode):
                if within(message, entry, self._window_ms):
                    feedback = self._first_feedback(key, message, entry)
                    told = feedback.fingerprint()
                    self._writes[key] = entry._replace(fingerprint=told, value=b"", traceparent=b"").pack()
                    self._pair(episode, cell, Pair(message, feedback))

    def feedback(self, message: Message) -> None:
        episode, at = message.episode, message.arrived_at
        stored = self._get(state.PREDICTION + episode)
        waits = stored is None or state.is_mark(stored)
        if not self._is_new(message, self._get(message.key)):
            return
        if stored is None or waits:
            self._keep(message, Entry(at, message.offset, traceparent=message.traceparent, value=message.value))
            self._waiting[episode].append(message.key)
            self._mark_waiting(episode, at)
            return
        self._keep(message, Entry(at, message.offset, message.fingerprint()))
        entry = Entry.unpack(stored)
        if within(entry, message, self._window_ms):
            cell = self._cell(entry.cell)
            self._pair(episode, cell, Pair(self._first_prediction(message, entry, cell), message))

    def keep_counts(self) -> None:
        for cell, predictions in self._new.items():
            self._count(cell, Counts(predictions=predictions))
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
                target = state.PREDICTION + target[1:]
                marked = self._get(target)
                if marked is None or not state.is_mark(marked):
                    continue
                if key < state.expiry_key(state.unpack_time(marked), b""):
                    continue
            self._writes[target] = None
            if target[:1] == state.PREDICTION:
                self._writes[state.REVIEW + target[1:]] = None
        reached = due[-1] if due else start
        # a batch that spans more than a window holds entries that are due already: the next scan must see them
        self._matcher.expired_to = min(reached, self._earliest or reached)
        self.matched.expired = len(due)

    def _is_new(self, message: Message, stored: bytes | None) -> bool:
        """Whether this is the first copy; the others are told apart: duplicates and conflicts."""
        if stored is None:
            return True
        if self._same_content(message, Entry.unpack(stored)):
            self.matched.duplicates[message.topic] += 1
        else:
            self.matched.conflicts.append(message)
        return False

    def _same_content(self, message: Message, first: Entry) -> bool:
        if first.value == message.value:
            return True
        told = first.fingerprint
        if first.value:
            event = codec.decode(message.record, first.value, self._schema(first.value))
            told = content.fingerprint(message.record, event)
        return message.fingerprint() == told

    def _keep(self, message: Message, entry: Entry) -> None:
        self._writes[message.key] = entry.pack()
        self._forget_after(entry.arrived_at, message.key)

    def _pair(self, episode: bytes, cell: Cell, pair: Pair) -> None:
        self.matched.pairs.append(pair)
        if pair.prediction.arrived_at not in self._counted(cell):
            return
        if pair.feedback.arrived_at >= closes_at(cell, self._window_ms):
            return
        key = state.REVIEW + episode
        before = state.unpack_review(self._get(key))
        after = before.plus(pair.feedback.judgement)
        if after is not before:
            self._writes[key] = state.pack_review(after)
            self._count(cell, after.counts().minus(before.counts()))

    def _counted(self, cell: Cell) -> range:
        """The arrivals (ms) with which a prediction is counted there."""
        found = self._arrivals.get(cell)
        if found is None:
            found = self._arrivals[cell] = counted_arrivals(cell, self._window_ms)
        return found

    def _cell_key(self, cell: Cell) -> bytes:
        found = self._cell_keys.get(cell)
        if found is None:
            found = self._cell_keys[cell] = state.cell_key(cell)
            self._cells[found] = cell
        return found

    def _cell(self, key: bytes) -> Cell:
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = state.unpack_cell_key(key)
        return found

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
        key = state.PREDICTION + episode
        marked = self._get(key)
        if marked is None or state.unpack_time(marked) < arrived_at:
            self._writes[key] = state.pack_time(arrived_at)
            self._forget_after(arrived_at, state.WAITING + episode)

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

    def _first_feedback(self, key: bytes, prediction: Message, entry: Entry) -> Message:
        """A stored feedback as the message that it was."""
        record, schema = state.feedback_record(key), self._schema(entry.value)
        event = codec.decode(record, entry.value, schema)
        topic = self._matcher.topics[record]
        arrived = Arrived(record, event, topic, prediction.partition, entry.offset, entry.arrived_at)
        return Message.of(arrived, entry.value, schema, entry.traceparent)

    def _first_prediction(self, feedback: Message, entry: Entry, cell: Cell) -> Message:
        """A stored prediction as the message that it was."""
        topic, key = self._matcher.topics["Prediction"], state.PREDICTION + feedback.episode
        place = topic, feedback.partition, entry.offset, entry.arrived_at, feedback.task_id, key
        schema = self._schema(entry.value)
        return Message("Prediction", *place, cell, None, b"", entry.value, schema, entry.traceparent)

    def _schema(self, value: bytes) -> Schema:
        """The schema of stored bytes."""
        schemas = self._matcher.schemas
        schema_id = wire.schema_id(value)
        if schema_id not in schemas:
            stored = self._get(state.schema_key(schema_id))
            assert stored is not None, "a schema is written together with the first bytes that need it"
            schemas[schema_id] = Schema(stored.decode())
        return schemas[schema_id]

    def _get(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        if key not in self._known:
            self._known[key] = self._matcher.store.get([key])[0]
        return self._known[key]


def _headers(messages: Iterable[Message]) -> dict[bytes, Schema]:
    """The headers of the messages' values with the schemas that they name."""
    return {message.value[: wire.HEADER]: message.schema for message in messages}


def _looked_up(messages: Iterable[Message]) -> Iterator[bytes]:
    """The keys that matching looks up, so that a whole batch is looked up at once."""
    for message in messages:
        yield message.key
        if message.record != "Prediction":
            yield state.PREDICTION + message.episode
            yield state.REVIEW + message.episode
