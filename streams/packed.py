"""Many small values in little memory: buckets of them, of which those that were not used lately are compressed."""

from __future__ import annotations

import marshal
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

B = TypeVar("B", bound=Hashable)


class Packed(Generic[B]):
    """Bytes by key, in buckets. An open entry takes some 300 bytes, a compressed one of JSON keys some ten."""

    def __init__(self, most_open: int) -> None:
        """`most_open`: entries that may stay open."""
        self._most_open = most_open
        self._open = OrderedDict[B, dict[bytes, bytes]]()
        self._packed: dict[B, bytes] = {}

    def open(self, bucket: B) -> dict[bytes, bytes]:
        """The entries of one bucket, to be read and changed until `pack` is called."""
        if bucket not in self._open:
            packed = self._packed.pop(bucket, None)
            self._open[bucket] = {} if packed is None else marshal.loads(zlib.decompress(packed))
        self._open.move_to_end(bucket)
        return self._open[bucket]

    def pack(self) -> None:
        """Compress what was not used for longest, until no more is open than may be."""
        entries = sum(map(len, self._open.values()))
        while entries > self._most_open:
            bucket, values = self._open.popitem(last=False)
            entries -= len(values)
            self._packed[bucket] = zlib.compress(marshal.dumps(values), 1)

    def forget(self, is_old: Callable[[B], bool]) -> None:
        """Drop whole buckets."""
        for buckets in (self._open, self._packed):
            for bucket in [bucket for bucket in buckets if is_old(bucket)]:
                del buckets[bucket]
