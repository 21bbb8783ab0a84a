"""One partition's share of a batch: which pairs it completes, and what the state must remember of it.

Symmetric: a prediction looks for feedback that waits for it, a feedback for its prediction. Nothing is written here;
the engine writes what `match` returns after its transaction is committed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from flyback.schemas import codec, content, wire
from flyback.schemas.codec import Schema
from flyback.streams import entries, state
from flyback.streams.entries import Entry, Mark
from flyback.streams.join import Derived, derive, within
from flyback.streams.messages import Message, Predictions
from flyback.streams.rates import Cell, Counts, Review, closes_at, counted_arrivals
from flyback.streams.state import Meta, Store

_BUCKETS = 64  # in a window: what arrives in the same one may be forgotten together, with the last of it
_TOGETHER = 1_000  # keys that are forgotten together at most, so that a batch forgets a bounded number of them
_LOOKED_UP = 64  # keys at a time, whatever stands under them


class TooMuch(Exception):
    """What messages pair with has more bytes than may be held at once: match fewer of them."""


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
    paired_bytes: int = 0
    """Of the values in `pairs`."""
    writes: dict[bytes, bytes | None] = field(default_factory=dict)


class Matcher:
    """Matches against one partition's store. `topics` gives the raw topic's name by Avro record."""

    def __init__(self, store: Store, topics: dict[str, str], window_ms: int) -> None:
        self.store = store
        self.topics = topics
        self.window_ms = window_ms
        self.schemas: dict[bytes, Schema] = {}
        self.bucket_ms = max(1, window_ms // _BUCKETS)
        self.expired_to, self.expired_in = entries.EXPIRY, 0

    def match(
        self,
        messages: Sequence[Message],
        meta: Meta,
        predictions: Sequence[Predictions] = (),
        most_bytes: float = math.inf,
    ) -> Matched:
        """Match messages and predictions, and forget what left the window by `meta`'s watermarks.

        `meta` is how far the partition will be after this batch; it is part of the writes. Raises TooMuch where more
        than `most_bytes` are looked up or paired.
        """
        step = _Step(self, messages, most_bytes)
        left = step.predictions(predictions, messages)
        # of several copies the first by offset counts; how the topics' events lie between each other does not matter
        for message in sorted([*messages, *left], key=attrgetter("offset")):
            if message.record == "Prediction":
                step.prediction(message)
            else:
                step.feedback(message)
        step.keep_counts()
        events = len(messages) + sum(map(len, predictions))
        step.expire(self._cutoff(meta), at_most=1_000 + 2 * events)
        step.matched.writes[state.META] = meta.pack()
        return step.matched

    def _cutoff(self, meta: Meta) -> int | None:
        """Arrivals before this are outside every window still to come: the slowest topic has passed them."""
        if len(meta.watermarks) < len(self.topics):
            return None
        return min(meta.watermarks.values()) - self.window_ms


class _Step:
    """One batch over one store: reads see the batch's own writes."""

    def __init__(self, matcher: Matcher, messages: Sequence[Message], most_bytes: float) -> None:
        self._matcher = matcher
        self._window_ms = matcher.window_ms
        self._waiting: dict[bytes, list[bytes]] = defaultdict(list)
        self._expiring: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self._latest: dict[tuple[int, int], int] = {}
        self._new: Counter[Cell] = Counter()
        self._changes: dict[Cell, list[Counts]] = defaultdict(list)
        self.matched = Matched()
        self._writes = self.matched.writes
        self._most_bytes = most_bytes
        self._known: dict[bytes, bytes | None] = {}
        self._look_up(list(_looked_up(messages)))
        alone = [message.key for message in messages if message.record == "Prediction"]
        self._look_up_waiting(alone, [self._known[key] for key in alone])
        for header, schema in {message.value[: wire.HEADER]: message.schema for message in messages}.items():
            self._keep_schema(header, schema)

    def _look_up(self, keys: list[bytes]) -> None:
        self._known.update(zip(keys, self._stored(keys), strict=True))

    def _stored(self, keys: list[bytes]) -> list[bytes | None]:
        size = 0
        found: list[bytes | None] = []
        for i in range(0, len(keys), _LOOKED_UP):
            found += self._matcher.store.get(keys[i : i + _LOOKED_UP])
            size += sum(map(len, filter(None, found[i:])))
            if size > self._most_bytes:
                raise TooMuch
        return found

    def _look_up_waiting(self, keys: Iterable[bytes], stored: Iterable[bytes | None]) -> None:
        """The feedback that waits for these predictions, and what else is needed to pair it."""
        wanted = []
        for key, found in zip(keys, stored, strict=True):
            if found is not None and entries.is_mark(found):
                wanted += [*Mark.unpack(found).keys, entries.REVIEW + key[1:]]
        self._look_up(wanted)

    def _keep_schema(self, value: bytes, schema: Schema) -> None:
        key = entries.schema_key(wire.schema_id(value))
        if self._get(key) is None:
            self._writes[key] = schema.text.encode()

    def predictions(self, columns: Sequence[Predictions], messages: Sequence[Message]) -> list[Message]:
        """Keep first copies that no feedback has waited for; give the others, each of which wants a closer look."""
        left: list[Message] = []
        copies = Counter(message.key for message in messages if message.record == "Prediction")
        for each in columns:
            copies.update(each.keys)
        twice = {key for key, many in copies.items() if many > 1} if len(copies) < copies.total() else set()
        for each in columns:
            self._keep_schema(each.columns.values[0], each.schema)
            stored = self._stored(each.keys)
            if twice or any(stored):
                untouched = [kept is None and key not in twice for key, kept in zip(each.keys, stored, strict=True)]
                others = [i for i, is_untouched in enumerate(untouched) if not is_untouched]
                left += map(each.message, others)
                places = {each.keys[i]: stored[i] for i in others}
                self._known.update(places)
                self._look_up_waiting(places, places.values())
                each = each.where(untouched)
            self._writes.update(zip(each.keys, each.entries(), strict=True))
            self._forget_all_after(each.columns.arrivals, each.keys)
            self._count_new(each)
        return left

    def _count_new(self, predictions: Predictions) -> None:
        arrivals = predictions.columns.arrivals
        earliest, latest = min(arrivals, default=0), max(arrivals, default=0)
        counted = [counted_arrivals(cell, self._window_ms) for cell in predictions.cells]
        for place, rows in Counter(predictions.places).items():
            if earliest in counted[place] and latest in counted[place]:
                self._new[predictions.cells[place]] += rows
                counted[place] = range(0)
        if any(counted):
            for place, arrived_at in zip(predictions.places, arrivals, strict=True):
                if arrived_at in counted[place]:
                    self._new[predictions.cells[place]] += 1

    def prediction(self, message: Message) -> None:
        episode, cell = message.episode, message.cell
        assert cell is not None, "a prediction has one"
        stored = self._get(message.key)
        mark = Mark.unpack(stored) if stored is not None and entries.is_mark(stored) else None
        if not self._is_new(message, stored if mark is None else None):
            return
        at, trace = message.arrived_at, message.traceparent
        self._keep(
            message, Entry(at, message.offset, traceparent=trace, value=message.value, counted=entries.cell_key(cell))
        )
        if at in counted_arrivals(cell, self._window_ms):
            self._new[cell] += 1
        if mark is not None:
            for key, entry in self._feedback_waiting(episode, mark):
                if within(message, entry, self._window_ms):
                    feedback = self._first_feedback(key, message, entry)
                    self._writes[key] = Entry(entry.arrived_at, entry.offset, feedback.fingerprint()).pack()
                    self._pair(episode, cell, Pair(message, feedback))

    def feedback(self, message: Message) -> None:
        episode, at = message.episode, message.arrived_at
        stored = self._get(entries.PREDICTION + episode)
        if not self._is_new(message, self._get(message.key)):
            return
        if stored is None or entries.is_mark(stored):
            told = message.content or entries.NO_FINGERPRINT
            review = entries.pack_review(Review().plus(message.judgement))
            self._keep(message, Entry(at, message.offset, told, message.traceparent, message.value, review))
            self._waiting[episode].append(message.key)
            self._mark_waiting(episode, at, message.key)
            return
        self._keep(message, Entry(at, message.offset, message.fingerprint()))
        entry = Entry.unpack(stored)
        if within(entry, message, self._window_ms):
            cell = entries.unpack_cell_key(entry.counted)
            self._pair(episode, cell, Pair(self._first_prediction(message, entry, cell), message))

    def keep_counts(self) -> None:
        for cell, predictions in self._new.items():
            self._changes[cell].append(Counts(predictions=predictions))
        keys = [entries.cell_key(cell) for cell in self._changes]
        for (cell, changes), key, stored in zip(
            self._changes.items(), keys, self._matcher.store.get(keys), strict=True
        ):
            if stored is None:
                self._forget_after(closes_at(cell, self._window_ms) - self._window_ms, key)
            else:
                changes.append(entries.unpack_counts(stored))
            self.matched.counts[cell] = total = Counts.total(changes)
            self._writes[key] = entries.pack_counts(total)

    def expire(self, cutoff: int | None, at_most: int) -> None:
        """Delete what arrived before `cutoff` (ms), at most so many entries in one batch."""
        if cutoff is None:
            self._keep_expiry()
            return
        store, matcher = self._matcher.store, self._matcher
        was_dropped = store.next_write == matcher.expired_in
        start = entries.EXPIRY if was_dropped else matcher.expired_to
        end = entries.expiry_key(cutoff)
        due: list[bytes] = []
        reached = start
        for key, keys in store.scan(entries.EXPIRY, start=start):
            if key >= end or len(due) >= at_most:
                break
            due += entries.unpack_keys(keys)
            self._writes[key] = None
            reached = key
        for key in due:
            if key[:1] == entries.WAITING:
                key = entries.PREDICTION + key[1:]
                marked = self._get(key)
                if marked is None or not entries.is_mark(marked) or Mark.unpack(marked).arrived_at >= cutoff:
                    continue
            self._writes[key] = None
            if key[:1] == entries.PREDICTION:
                self._writes[entries.REVIEW + key[1:]] = None
        # a batch that spans more than a window holds entries that are due already: the next scan must see them
        matcher.expired_in, matcher.expired_to = store.next_write, min([reached, *self._keep_expiry()])
        self.matched.expired = len(due)

    def _keep_expiry(self) -> list[bytes]:
        """Write down when to forget what this batch puts; the keys of that."""
        write, keys = self._matcher.store.next_write, list[bytes]()
        for (bucket, length), expiring in self._expiring.items():
            for i in range(0, len(expiring), _TOGETHER):
                keys.append(entries.expiry_key(self._latest[bucket, length], write, len(keys)))
                self._writes[keys[-1]] = entries.pack_keys(expiring[i : i + _TOGETHER])
        return keys

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
        if told == entries.NO_FINGERPRINT:
            event = codec.decode(message.record, first.value, self._schema(first.value))
            told = content.fingerprint(message.record, event)
        return message.fingerprint() == told

    def _keep(self, message: Message, entry: Entry) -> None:
        self._writes[message.key] = entry.pack()
        self._forget_after(entry.arrived_at, message.key)

    def _pair(self, episode: bytes, cell: Cell, pair: Pair) -> None:
        self.matched.pairs.append(pair)
        self.matched.paired_bytes += len(pair.prediction.value) + len(pair.feedback.value)
        if self.matched.paired_bytes > self._most_bytes:
            raise TooMuch
        if pair.prediction.arrived_at not in counted_arrivals(cell, self._window_ms):
            return
        if pair.feedback.arrived_at >= closes_at(cell, self._window_ms):
            return
        key = entries.REVIEW + episode
        stored = self._get(key)
        before = Review() if stored is None else entries.unpack_review(stored)
        after = before.plus(pair.feedback.judgement)
        if after is not before:
            self._writes[key] = entries.pack_review(after)
            self._changes[cell].append(after.counts() if stored is None else after.counts().minus(before.counts()))

    def _mark_waiting(self, episode: bytes, arrived_at: int, key: bytes) -> None:
        place = entries.PREDICTION + episode
        stored = self._get(place)
        before = None if stored is None else Mark.unpack(stored)
        after = Mark(arrived_at, [key]) if before is None else before.plus(arrived_at, key)
        self._writes[place] = after.pack()
        if before is None or before.arrived_at < arrived_at:
            self._forget_after(arrived_at, entries.WAITING + episode)

    def _forget_after(self, milliseconds: int, key: bytes) -> None:
        """Let a key be deleted once the slowest topic is one window past this time."""
        together = milliseconds // self._matcher.bucket_ms, len(key)
        self._expiring[together].append(key)
        self._latest[together] = max(milliseconds, self._latest.get(together, milliseconds))

    def _forget_all_after(self, arrivals: list[int], keys: list[bytes]) -> None:
        """The same for many keys of one length."""
        if not keys:
            return
        earliest, latest = min(arrivals), max(arrivals)
        together = latest // self._matcher.bucket_ms, len(keys[0])
        if earliest // self._matcher.bucket_ms == together[0]:
            self._expiring[together] += keys
            self._latest[together] = max(latest, self._latest.get(together, latest))
        else:
            for milliseconds, key in zip(arrivals, keys, strict=True):
                self._forget_after(milliseconds, key)

    def _feedback_waiting(self, episode: bytes, mark: Mark) -> Iterator[tuple[bytes, Entry]]:
        keys = mark.keys
        if not keys:
            keys = [key for key, _ in self._matcher.store.scan(entries.FEEDBACK + episode)] + self._waiting[episode]
        for key in keys:
            stored = self._get(key)
            if stored is not None and (entry := Entry.unpack(stored)).value:
                yield key, entry

    def _first_feedback(self, key: bytes, prediction: Message, entry: Entry) -> Message:
        """A stored feedback as the message that it was."""
        record, review = entries.feedback_record(key), entries.unpack_review(entry.counted)
        place = self._matcher.topics[record], prediction.partition, entry.offset, entry.arrived_at, prediction.task_id
        told = b"" if entry.fingerprint == entries.NO_FINGERPRINT else entry.fingerprint
        judgement, schema = review.correction or review.grade, self._schema(entry.value)
        return Message(record, *place, key, None, judgement, told, entry.value, schema, entry.traceparent)

    def _first_prediction(self, feedback: Message, entry: Entry, cell: Cell) -> Message:
        """A stored prediction as the message that it was."""
        topic, key = self._matcher.topics["Prediction"], entries.PREDICTION + feedback.episode
        place = topic, feedback.partition, entry.offset, entry.arrived_at, feedback.task_id, key
        schema = self._schema(entry.value)
        return Message("Prediction", *place, cell, None, b"", entry.value, schema, entry.traceparent)

    def _schema(self, value: bytes) -> Schema:
        """The schema of stored bytes."""
        header = value[: wire.HEADER]
        schema = self._matcher.schemas.get(header)
        if schema is None:
            stored = self._get(entries.schema_key(wire.schema_id(header)))
            assert stored is not None, "a schema is written together with the first bytes that need it"
            schema = self._matcher.schemas[header] = Schema(stored.decode())
        return schema

    def _get(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        if key not in self._known:
            self._known[key] = self._matcher.store.get([key])[0]
        return self._known[key]


def _looked_up(messages: Iterable[Message]) -> Iterator[bytes]:
    """The keys that matching looks up, so that a whole batch is looked up at once."""
    for message in messages:
        yield message.key
        if message.record != "Prediction":
            yield entries.PREDICTION + message.episode
            yield entries.REVIEW + message.episode
