"""Where Java's partitioner puts keys, for whole columns: the same as `flyback.streams.topology.partition_for`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from flyback.streams.topology import partition_for

_FEW = 16  # keys of one length, below which one by one is faster
_LONGEST = 256  # bytes
_U32 = pa.uint32()
_M, _SEED, _POSITIVE = (pa.scalar(value, _U32) for value in (0x5BD1E995, 0x9747B28C, 0x7FFFFFFF))
_13, _15, _24 = (pa.scalar(value, _U32) for value in (13, 15, 24))


def partitions_for(keys: pa.BinaryArray, partitions: int) -> pa.Int32Array:
    """The partition of each key, null where the key is null."""
    lengths = pc.binary_length(keys)
    counts = pc.value_counts(lengths)
    if len(counts) == 1 and keys.null_count == 0:  # as where every task_id is a UUID
        return _of_one_length(keys, partitions)
    found: list[int | None] = [None] * len(keys)
    for length in counts.field("values").drop_null():
        places = pc.indices_nonzero(pc.fill_null(pc.equal(lengths, length), False))
        for place, partition in zip(
            places.to_pylist(), _of_one_length(keys.take(places), partitions).to_pylist(), strict=True
        ):
            found[place] = partition
    return pa.array(found, pa.int32())


def _of_one_length(keys: pa.BinaryArray, partitions: int) -> pa.Int32Array:
    length = len(keys[0].as_py())
    if len(keys) < _FEW or not 0 < length <= _LONGEST:
        return pa.array([partition_for(key, partitions) for key in keys.to_pylist()], pa.int32())
    h: pa.Array = pa.repeat(pc.bit_wise_xor(_SEED, pa.scalar(length, _U32)), len(keys))
    words = list(_words(keys, length))
    for k in words[: length // 4]:
        k = pc.multiply(k, _M)
        k = pc.multiply(pc.bit_wise_xor(k, pc.shift_right(k, _24)), _M)
        h = pc.bit_wise_xor(pc.multiply(h, _M), k)
    if length % 4:
        h = pc.multiply(pc.bit_wise_xor(h, words[-1]), _M)
    h = pc.multiply(pc.bit_wise_xor(h, pc.shift_right(h, _13)), _M)
    h = pc.bit_wise_and(pc.bit_wise_xor(h, pc.shift_right(h, _15)), _POSITIVE)
    whole = pc.multiply(pc.divide(h, pa.scalar(partitions, _U32)), pa.scalar(partitions, _U32))
    return pc.subtract(h, whole).cast(pa.int32())


def _words(keys: pa.BinaryArray, length: int) -> Iterator[pa.UInt32Array]:
    """The keys' four-byte words in little endian, the last one filled up with zeros: one column a word."""
    padding = bytes(-length % 4)
    joined = padding.join(keys.to_pylist()) + padding
    width = (length + len(padding)) // 4
    flat = pa.Array.from_buffers(_U32, len(keys) * width, [None, pa.py_buffer(joined)])
    table = pa.FixedSizeListArray.from_arrays(flat, width)
    return (pc.list_element(table, i) for i in range(width))
