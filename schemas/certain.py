"""Whole batches of messages to Arrow columns: the rows that are valid beyond doubt, and who needs a second look.

pyruhvro decodes a batch at once. What is not certainly as `flyback.schemas.intake.accept` and fastavro would have it
is left to them: they alone decide what is invalid and why, and speed never changes a result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import certify, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Schema, bundled
from flyback.schemas.rules import CHECKS

# Bytes that are decoded at once. Doing so takes several times as much memory as they have, in blocks that should be
# small enough to be used again (`flyback.allocator`).
_PIECE = 2_000_000
_FEW = 64  # up to so many of one schema are faster one by one


class Rows(NamedTuple):
    """Rows that are valid beyond doubt, as pyruhvro decodes them, with their positions among the messages."""

    batch: pa.RecordBatch
    positions: list[int]
    schema: Schema


def rows(
    record: str,
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None],
    found_in: Sequence[int],
    partitions: int,
    max_bytes: int,
    catalog: Catalog,
) -> tuple[list[Rows], list[int]]:
    """What is certain of messages with these values, keys and partitions; and the positions of the others, in order.

    Of derived records, which have no rules, keys and sizes are not looked at. Raises RegistryUnavailable.
    """
    raw = record in CHECKS
    by_header, doubtful = _by_header(values, max_bytes if raw else sys.maxsize)
    certain = []
    for header, positions in by_header.items():
        writer = _current(record, header, catalog)
        if writer is None:
            doubtful += positions
            continue
        for piece in pieces(positions, [len(values[i] or b"") for i in positions], _PIECE):
            bodies = [values[i][wire.HEADER :] for i in piece]  # type: ignore[index]
            for batch, of_these, found in _halving(pyruhvro_schema(record), bodies, piece, doubtful):
                sure = _sure(record, batch, of_these)
                if raw:
                    own_keys, own_places = [keys[i] for i in found], [found_in[i] for i in found]
                    sure = pc.and_(sure, certify.keyed(batch, own_keys, own_places, partitions))
                else:
                    sure = pc.and_(sure, certify.times_in_range(record, batch))
                if not pc.all(sure).as_py():
                    flags = sure.to_pylist()
                    doubtful += [i for i, is_sure in zip(found, flags, strict=True) if not is_sure]
                    found = [i for i, is_sure in zip(found, flags, strict=True) if is_sure]
                    batch = batch.filter(sure)
                if found:
                    certain.append(Rows(batch, found, writer))
    return certain, sorted(doubtful)


def rows_of(record: str, bodies: list[bytes]) -> tuple[pa.RecordBatch, certify.Mask] | None:
    """Bodies that are laid out as this version's are, and which of them are certain; None where one does not decode."""
    batch = _decoded(pyruhvro_schema(record), bodies)
    return None if batch is None else (batch, _sure(record, batch, bodies))


def encoded(record: str, batch: pa.RecordBatch) -> pa.Array | None:
    """The rows' bodies; None where pyruhvro cannot encode one of them."""
    try:
        return pyruhvro.serialize_record_batch(batch, pyruhvro_schema(record), 1)[0]
    except BaseException as error:
        _raise_unless_panic(error)
        return None


def _raise_unless_panic(error: BaseException) -> None:
    # Rust's panics derive from BaseException
    if type(error).__name__ != "PanicException":
        raise error


def _sure(record: str, batch: pa.RecordBatch, bodies: list[bytes]) -> certify.Mask:
    # One valid body a row: pyruhvro reads past trailing bytes and forgives odd encodings. What it writes again
    # without a difference was read right.
    again = encoded(record, batch)
    if again is None:
        return pa.repeat(False, batch.num_rows)
    sure = pc.and_(pc.equal(again, pa.array(bodies, again.type)), certify.distinct_map_keys(batch))
    return pc.fill_null(pc.and_(sure, certify.valid(record, batch)), False)


def _current(record: str, header: bytes, catalog: Catalog) -> Schema | None:
    """The schema of messages with this header where it lays them out as this version's does."""
    try:
        writer = catalog.schema(wire.schema_id(header))
    except (InvalidEvent, UnknownSchema):
        return None
    return writer if same_body(writer, record) else None


def _by_header(values: Sequence[bytes | None], max_bytes: int) -> tuple[dict[bytes, list[int]], list[int]]:
    """Positions of the messages by their header; and of those that have no value, or a larger one."""
    fit = [i for i, value in enumerate(values) if value is not None and len(value) <= max_bytes]
    headers = [values[i][: wire.HEADER] for i in fit]  # type: ignore[index]
    found: dict[bytes, list[int]] = {header: [] for header in headers}
    if len(found) == 1:
        found[headers[0]] = fit
    else:
        for header, i in zip(headers, fit, strict=True):
            found[header].append(i)
    return found, sorted(set(range(len(values))).difference(fit)) if len(fit) < len(values) else []


def pieces(positions: list[int], sizes: Iterable[int], most: int) -> Iterator[list[int]]:
    """The positions in order, cut where what is there comes to so many bytes."""
    begin = held = 0
    for end, size in enumerate(sizes, 1):
        held += size
        if held >= most:
            yield positions[begin:end]
            begin, held = end, 0
    yield positions[begin:]


def _halving(
    schema: str, bodies: list[bytes], positions: list[int], doubtful: list[int]
) -> Iterator[tuple[pa.RecordBatch, list[bytes], list[int]]]:
    """What decodes, in as few batches as can be. pyruhvro does not say which body is bad, so halves are tried, and
    those of few given up."""
    if len(bodies) <= _FEW:
        doubtful += positions
        return
    batch = _decoded(schema, bodies)
    if batch is not None:
        yield batch, bodies, positions
        return
    middle = len(bodies) // 2
    yield from _halving(schema, bodies[:middle], positions[:middle], doubtful)
    yield from _halving(schema, bodies[middle:], positions[middle:], doubtful)


def _decoded(schema: str, bodies: list[bytes]) -> pa.RecordBatch | None:
    """The batch, or None where one of the bodies is bad."""
    try:
        batch = pyruhvro.deserialize_array(bodies, schema)
        batch.validate(full=True)  # pyruhvro does not look whether strings are UTF-8
    except (ValueError, pa.ArrowException):
        return None
    except BaseException as error:
        _raise_unless_panic(error)
        return None
    return batch


@cache
def pyruhvro_schema(record: str) -> str:
    """Without logical types (pyruhvro's times have no zone) and without documentation."""
    return json.dumps(_shape(json.loads(bundled(record).text)))


@cache
def same_body(writer: Schema, record: str) -> bool:
    """Whether bodies are laid out as this version's are, so that they can be read as such."""
    try:
        return bool(_shape(json.loads(writer.text)) == _shape(json.loads(bundled(record).text)))
    except ValueError:  # a registry also holds Protobuf
        return False


def _shape(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _shape(value) for key, value in node.items() if key not in ("doc", "logicalType")}
    if isinstance(node, list):
        return [_shape(item) for item in node]
    return node
