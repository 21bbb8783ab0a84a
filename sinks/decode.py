"""Messages of one topic to Arrow columns.

The fast path decodes whole batches with pyruhvro and keeps only the rows that are valid beyond doubt; every other
message takes the slow path, the one that the engine takes: `flyback.schemas.intake` and fastavro. So the slow path
alone decides what is invalid and why, and speed never changes a result.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import codec, intake, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record, Schema, bundled
from flyback.schemas.rules import CHECKS
from flyback.sinks import certify, columns
from flyback.sinks.message import Message

_PIECE = 8_000_000  # bytes that are decoded at once: doing so takes several times as much memory as they have
_FEW = 8  # below this, halving a bad batch further costs more than decoding its messages one by one


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is no row: its position in the batch, one of `intake.REASONS`, and the reason as a sentence."""

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The columns of the valid messages, their positions in the batch (ascending), and the others."""

    columns: pa.Table
    kept: list[int]
    rejected: list[Rejected]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes the messages of one topic. `partitions` is how many the topic has."""

    record: str
    partitions: int
    max_bytes: int
    catalog: Catalog

    @property
    def raw(self) -> bool:
        """Whether the rules for raw events apply."""
        return self.record in CHECKS

    def decode(self, messages: Sequence[Message], given_up: Set[int] = frozenset()) -> Decoded:
        """Valid rows and rejected messages. Schema ids in `given_up` are rejected where the catalog does not know them.

        Raises UnknownSchema or RegistryUnavailable; nothing is lost by calling again later.
        """
        certain: list[tuple[pa.Table, list[int]]] = []
        doubtful: list[int] = []
        for batch, indices in self._fast(messages, given_up, doubtful):
            sure = self._sure(batch, [messages[i] for i in indices])
            table = columns.from_avro(self.record, batch)
            if not pc.all(sure).as_py():
                table = table.filter(sure)
                doubtful += [i for i, is_sure in zip(indices, sure.to_pylist(), strict=True) if not is_sure]
                indices = [i for i, is_sure in zip(indices, sure.to_pylist(), strict=True) if is_sure]
            certain.append((table, indices))
        accepted, rejected = self._slow(messages, sorted(doubtful), given_up)
        certain.append((columns.from_records(self.record, list(accepted.values())), list(accepted)))
        return _in_order(certain, rejected)

    def _fast(
        self, messages: Sequence[Message], given_up: Set[int], doubtful: list[int]
    ) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
        """Decoded batches with their positions; positions of what cannot be decoded at once go to `doubtful`."""
        by_header: defaultdict[bytes, list[int]] = defaultdict(list)
        for i, message in enumerate(messages):
            value = message.value
            if value is None or (self.raw and len(value) > self.max_bytes):
                doubtful.append(i)
            else:
                by_header[value[: wire.HEADER]].append(i)
        for header, indices in by_header.items():
            if self._is_current(header, given_up):
                for piece in _pieces(messages, indices):
                    bodies = [(messages[i].value or b"")[wire.HEADER :] for i in piece]
                    yield from _halving(_pyruhvro_schema(self.record), bodies, piece, doubtful)
            else:
                doubtful += indices

    def _is_current(self, header: bytes, given_up: Set[int]) -> bool:
        """Whether messages with this header were written with this version's schema."""
        try:
            schema_id = wire.schema_id(header)
        except InvalidEvent:
            return False
        try:
            return _same_body(self.catalog.schema(schema_id), bundled(self.record))
        except UnknownSchema:
            if schema_id in given_up:
                return False
            raise

    def _sure(self, batch: pa.RecordBatch, messages: Sequence[Message]) -> pa.BooleanArray:
        """Which rows need no second look."""
        # One valid body a row: pyruhvro reads past trailing bytes and forgives odd encodings. What it writes again
        # without a difference was read right.
        again = pyruhvro.serialize_record_batch(batch, _pyruhvro_schema(self.record), 1)[0]
        bodies = pa.array([(message.value or b"")[wire.HEADER :] for message in messages], again.type)
        sure = pc.and_(pc.equal(again, bodies), certify.distinct_map_keys(batch))
        sure = pc.and_(sure, certify.times_in_range(self.record, batch))
        sure = pc.and_(sure, certify.valid(self.record, batch))
        if self.raw:
            keys = [message.key for message in messages]
            found_in = [message.partition for message in messages]
            sure = pc.and_(sure, certify.keyed(batch, keys, found_in, self.partitions))
        return pc.fill_null(sure, False)

    def _slow(
        self, messages: Sequence[Message], indices: Sequence[int], given_up: Set[int]
    ) -> tuple[dict[int, Record], list[Rejected]]:
        accepted: dict[int, Record] = {}
        rejected = []
        for i in indices:
            try:
                event = self._reference(messages[i])
                columns.check_range(self.record, event)
                accepted[i] = event
            except InvalidEvent as error:
                rejected.append(Rejected(i, error.reason, str(error)))
            except UnknownSchema as error:
                if error.schema_id not in given_up:
                    raise
                rejected.append(Rejected(i, "unknown_schema", str(error)))
        return accepted, rejected

    def _reference(self, message: Message) -> Record:
        if self.raw:
            return intake.accept(
                self.record,
                message.key,
                message.value,
                message.partition,
                self.partitions,
                self.max_bytes,
                self.catalog,
            )
        writer = self.catalog.schema(wire.schema_id(message.value))
        return codec.decode(self.record, message.value or b"", writer)


def _pieces(messages: Sequence[Message], indices: list[int]) -> Iterator[list[int]]:
    """The indices in order, cut where the messages come to `_PIECE` bytes."""
    piece: list[int] = []
    size = 0
    for i in indices:
        piece.append(i)
        size += messages[i].size
        if size >= _PIECE:
            yield piece
            piece, size = [], 0
    yield piece


def _halving(
    schema: str, bodies: list[bytes], indices: list[int], doubtful: list[int]
) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
    """What decodes, in as few batches as can be. pyruhvro does not say which body is bad, so halves are tried."""
    if len(bodies) <= _FEW:
        doubtful += indices
        return
    batch = _decoded(schema, bodies)
    if batch is not None:
        yield batch, indices
        return
    middle = len(bodies) // 2
    yield from _halving(schema, bodies[:middle], indices[:middle], doubtful)
    yield from _halving(schema, bodies[middle:], indices[middle:], doubtful)


def _decoded(schema: str, bodies: list[bytes]) -> pa.RecordBatch | None:
    """The batch, or None where one of the bodies is bad."""
    try:
        batch = pyruhvro.deserialize_array(bodies, schema)
        batch.validate(full=True)  # pyruhvro does not look whether strings are UTF-8
    except (ValueError, pa.ArrowException):
        return None
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # Rust's, which derives from BaseException
            return None
        raise
    return batch


@cache
def _pyruhvro_schema(record: str) -> str:
    """Without logical types (pyruhvro's times have no zone) and without documentation."""
    return json.dumps(_shape(json.loads(bundled(record).text)))


@cache
def _same_body(writer: Schema, reader: Schema) -> bool:
    """Whether the bodies of both are laid out alike, so that one can be read as the other."""
    return bool(_shape(json.loads(writer.text)) == _shape(json.loads(reader.text)))


def _shape(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _shape(value) for key, value in node.items() if key not in ("doc", "logicalType")}
    if isinstance(node, list):
        return [_shape(item) for item in node]
    return node


def _in_order(parts: list[tuple[pa.Table, list[int]]], rejected: list[Rejected]) -> Decoded:
    """One table with its rows in the order of the messages."""
    table = pa.concat_tables([part for part, _ in parts])
    kept = [i for _, indices in parts for i in indices]
    if kept != sorted(kept):
        order = sorted(range(len(kept)), key=kept.__getitem__)
        table, kept = table.take(pa.array(order)), sorted(kept)
    return Decoded(table, kept, rejected)
