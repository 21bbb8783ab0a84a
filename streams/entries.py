"""What the state keeps of events: keys, and the bytes under them.

A partition's keys, by their first byte:

    p + episode              a prediction's first copy; until it is there, a mark that feedback waits for it
    f + episode + feedback   a feedback's first copy, with its bytes while it waits for its prediction
    r + episode              the reviews of a prediction so far
    c + cell                 a cell's counts
    x + time + write         which keys may be forgotten once that time has left the window (w + episode: that
                             feedback waits): some of those that one write put, joined, all of one length
    s + schema id            schemas of the bytes kept above: a restore needs no registry
    m                        offsets applied, watermarks, and whose state this is
    l + number               the first write and the last one: no others, or writes in between are missing
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from math import isnan, nan
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flyback.streams.rates import Cell, Correcting, Counts, Grading, Review

PREDICTION, FEEDBACK, WAITING, REVIEW, CELL, EXPIRY, SCHEMA = b"p", b"f", b"w", b"r", b"c", b"x", b"s"
NO_FINGERPRINT = bytes(16)
_FEEDBACK_KEY = 34  # bytes
_MARKED, _KEPT = 0, 1  # what stands in a prediction's place: a mark, or its first copy
_ENTRY = struct.Struct(">Bqq16sII")
_MARK = struct.Struct(">Bq")
_NAMED = 16  # feedback that a mark names, so that one prediction that never comes does not make ever longer ones
_EXPIRY = struct.Struct(">QQI")
_LENGTH = struct.Struct(">I")
_CORRECTING, _GRADING = struct.Struct(">qq?d"), struct.Struct(">?d")
_NONE = nan  # no event has it for a probability
_CELLS = 1_000  # a batch has fewer; their labels may be long
_json = json.JSONEncoder(separators=(",", ":")).encode


def episode_of(task_id: str, prediction_id: str) -> bytes:
    """16 bytes for an episode's prediction: a hash, so that keys are short whatever ids look like."""
    task = task_id.encode()
    return blake2b(b"%d:%s:%s" % (len(task), task, prediction_id.encode()), digest_size=16).digest()


def episodes_of(task_ids: pa.StringArray, prediction_ids: pa.StringArray, prefix: bytes = b"") -> list[bytes]:
    """The same for columns, each after the prefix."""
    task, prediction = task_ids.cast(pa.binary()), prediction_ids.cast(pa.binary())
    length = pc.binary_length(task).cast(pa.string()).cast(pa.binary())
    named = pc.binary_join_element_wise(length, task, prediction, b":").to_pylist()
    return [prefix + blake2b(each, digest_size=16).digest() for each in named]


def feedback_key(episode: bytes, record: str, feedback_id: str) -> bytes:
    """The key of a feedback's first copy; its 18th byte says which record it is."""
    return FEEDBACK + episode + record[:1].encode() + blake2b(feedback_id.encode(), digest_size=16).digest()


def prediction_key(task_id: str, prediction_id: str) -> bytes:
    """The key of a prediction's first copy."""
    return PREDICTION + episode_of(task_id, prediction_id)


def feedback_record(key: bytes) -> str:
    """Correction or Grade, from a feedback's key."""
    return "Correction" if key[17:18] == b"C" else "Grade"


def schema_key(schema_id: int) -> bytes:
    return SCHEMA + schema_id.to_bytes(4, "big")


class Entry(NamedTuple):
    """A first copy: arrival (ms), offset, traceparent, and its message value where it is still needed.

    Its copies are told by the fingerprint of the content; by the value where that has not been taken.
    """

    arrived_at: int
    offset: int
    fingerprint: bytes = NO_FINGERPRINT
    traceparent: bytes = b""
    value: bytes = b""
    counted: bytes = b""
    """The key of the cell that a prediction is counted in; the packed review that a feedback which waits comes to."""

    def pack(self) -> bytes:
        arrived_at, offset, fingerprint, trace, value, counted = self
        head = _ENTRY.pack(_KEPT, arrived_at, offset, fingerprint, len(trace), len(counted))
        return head + trace + counted + value

    @classmethod
    def unpack(cls, stored: bytes) -> Entry:
        _, arrived_at, offset, fingerprint, trace, counted = _ENTRY.unpack_from(stored)
        counted_at = _ENTRY.size + trace
        value_at = counted_at + counted
        trace, counted = stored[_ENTRY.size : counted_at], stored[counted_at:value_at]
        return cls(arrived_at, offset, fingerprint, trace, stored[value_at:], counted)


def pack_entries(
    arrivals: Sequence[int],
    offsets: Sequence[int],
    traces: Sequence[bytes],
    cells: Sequence[bytes],
    values: Sequence[bytes],
) -> Iterator[bytes]:
    """Many predictions' entries without fingerprints, each packed as `Entry.pack` does."""
    heads = map(
        _ENTRY.pack, repeat(_KEPT), arrivals, offsets, repeat(NO_FINGERPRINT), map(len, traces), map(len, cells)
    )
    return map(b"".join, zip(heads, traces, cells, values, strict=True))


class Mark(NamedTuple):
    """What stands in a prediction's place while feedback waits for it."""

    arrived_at: int
    """The latest arrival (ms) of that feedback."""
    keys: list[bytes]
    """Where it is, some of which may be forgotten; none where there is more of it than a mark names.

    What had waited for an earlier prediction, one that has been forgotten, is not named: it had its chance.
    """

    def plus(self, arrived_at: int, key: bytes) -> Mark:
        """With one more."""
        keys = [*self.keys, key] if 0 < len(self.keys) < _NAMED else []
        return Mark(max(self.arrived_at, arrived_at), keys)

    def pack(self) -> bytes:
        return _MARK.pack(_MARKED, self.arrived_at) + b"".join(self.keys)

    @classmethod
    def unpack(cls, stored: bytes) -> Mark:
        _, arrived_at = _MARK.unpack_from(stored)
        return cls(arrived_at, _cut(stored, _MARK.size, _FEEDBACK_KEY))


def is_mark(stored: bytes) -> bool:
    """Whether what stands in a prediction's place says that feedback waits for it."""
    return stored[0] == _MARKED


@lru_cache(_CELLS)
def cell_key(cell: Cell) -> bytes:
    return CELL + _json(cell).encode()


@lru_cache(_CELLS)
def unpack_cell_key(key: bytes) -> Cell:
    return Cell(*json.loads(key[1:]))


def pack_counts(counts: Counts) -> bytes:
    return _json(counts).encode()  # exact, however large a sum of weights gets


def unpack_counts(stored: bytes) -> Counts:
    return Counts(*json.loads(stored))


def pack_review(review: Review) -> bytes:
    correction, grade = review
    correcting = grading = b""
    if correction is not None:
        authority, occurred_at, name, failed, probability = correction
        numbers = authority, occurred_at, failed, _NONE if probability is None else probability
        correcting = _CORRECTING.pack(*numbers) + name.encode()
    if grade is not None:
        name, passed, probability = grade
        grading = _GRADING.pack(passed, _NONE if probability is None else probability) + name.encode()
    return _LENGTH.pack(len(correcting)) + correcting + grading


def unpack_review(stored: bytes) -> Review:
    correction = grade = None
    end = _LENGTH.size + _LENGTH.unpack_from(stored)[0]
    if correcting := stored[_LENGTH.size : end]:
        authority, occurred_at, failed, probability = _CORRECTING.unpack_from(correcting)
        name = correcting[_CORRECTING.size :].decode()
        correction = Correcting(authority, occurred_at, name, failed, None if isnan(probability) else probability)
    if grading := stored[end:]:
        passed, probability = _GRADING.unpack_from(grading)
        grade = Grading(grading[_GRADING.size :].decode(), passed, None if isnan(probability) else probability)
    return Review(correction, grade)


def expiry_key(arrived_at: int, write: int = 0, part: int = 0) -> bytes:
    """Ordered by time; the sign bit is flipped so that negative times sort first."""
    return EXPIRY + _EXPIRY.pack(arrived_at + (1 << 63), write, part)


def pack_keys(keys: Sequence[bytes]) -> bytes:
    """Keys of one length."""
    return _LENGTH.pack(len(keys[0])) + b"".join(keys)


def unpack_keys(stored: bytes) -> list[bytes]:
    return _cut(stored, _LENGTH.size, *_LENGTH.unpack_from(stored))


def _cut(stored: bytes, start: int, length: int) -> list[bytes]:
    return [stored[i : i + length] for i in range(start, len(stored), length)]
