"""What a worker remembers: one RocksDB for each partition, behind Kafka or level with it, never ahead.

A partition's keys, by their first byte:

    p + episode              a prediction's first copy; until it is there, that feedback waits for it: the latest
                             arrival of those that do
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

import fcntl
import json
import re
import shutil
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from flyback.errors import BrokenState, RefusedToStart
from flyback.logs import get_logger
from flyback.schemas.codec import bundled
from flyback.streams.join import DERIVE_VERSION
from flyback.streams.rates import Cell, Correcting, Counts, Grading, Review

log = get_logger(__name__)

META, LINK = b"m", b"l"
PREDICTION, FEEDBACK, WAITING, REVIEW, CELL, EXPIRY, SCHEMA = b"p", b"f", b"w", b"r", b"c", b"x", b"s"
_ENTRY = struct.Struct(">qq16sIH")
_TIME = struct.Struct(">q")
_json = json.JSONEncoder(separators=(",", ":")).encode
_EXPIRY = struct.Struct(">QQI")
_LENGTH = struct.Struct(">I")
_BROKEN = ("Corruption", "No such file")  # what RocksDB says of files that are damaged or missing
_UNREADABLE = "UNREADABLE"  # a file beside RocksDB's: some of it could not be read
_WORKER_ID = re.compile(r"[\w.-]{1,100}", re.ASCII)
MEND = "Kafka has everything; make room or mend the disk, then start this worker again"
"""What to do about a state that cannot be written."""

LAYOUT = 3
"""Raised whenever keys, entries or fingerprints change: a state that was laid out otherwise is rebuilt."""

# Files that lie over each other before RocksDB merges them, slows writes down, and stops them.
_MERGING = ("level0_file_num_compaction_trigger", "level0_slowdown_writes_trigger", "level0_stop_writes_trigger")
_MERGE_SOON = dict(zip(_MERGING, ("4", "20", "36"), strict=True))  # its defaults
_MERGE_LATER = dict(zip(_MERGING, ("24", "48", "64"), strict=True))

Writes = Mapping[bytes, bytes | None]
"""New values by key; None deletes."""


def episode_of(task_id: str, prediction_id: str) -> bytes:
    """16 bytes for an episode's prediction: a hash, so that keys are short whatever ids look like."""
    task = task_id.encode()
    return _episode(b"%d:%s:%s" % (len(task), task, prediction_id.encode()))


def episodes_of(task_ids: pa.StringArray, prediction_ids: pa.StringArray) -> list[bytes]:
    """The same for columns."""
    task, prediction = task_ids.cast(pa.binary()), prediction_ids.cast(pa.binary())
    length = pc.binary_length(task).cast(pa.string()).cast(pa.binary())
    return [_episode(named) for named in pc.binary_join_element_wise(length, task, prediction, b":").to_pylist()]


def _episode(named: bytes) -> bytes:
    return blake2b(named, digest_size=16).digest()


def feedback_key(episode: bytes, record: str, feedback_id: str) -> bytes:
    """The key of a feedback's first copy; its 18th byte says which record it is."""
    return FEEDBACK + episode + record[:1].encode() + blake2b(feedback_id.encode(), digest_size=16).digest()


def _link(write: int) -> bytes:
    return LINK + write.to_bytes(8, "big")


def prediction_key(task_id: str, prediction_id: str) -> bytes:
    """The key of a prediction's first copy."""
    return PREDICTION + episode_of(task_id, prediction_id)


def feedback_record(key: bytes) -> str:
    """Correction or Grade, from a feedback's key."""
    return "Correction" if key[17:18] == b"C" else "Grade"


def schema_key(schema_id: int) -> bytes:
    return SCHEMA + schema_id.to_bytes(4, "big")


class Entry(NamedTuple):
    """A first copy: arrival (ms), offset, traceparent, its message value where it is still needed, a prediction's cell.

    Its copies are told by the value; by the content's fingerprint where the value is not kept.
    """

    arrived_at: int
    offset: int
    fingerprint: bytes = bytes(16)
    traceparent: bytes = b""
    value: bytes = b""
    cell: bytes = b""
    """The key of the cell that a prediction is counted in."""

    def pack(self) -> bytes:
        arrived_at, offset, fingerprint, trace, value, cell = self
        return _ENTRY.pack(arrived_at, offset, fingerprint, len(trace), len(cell)) + trace + cell + value

    @classmethod
    def unpack(cls, stored: bytes) -> Entry:
        arrived_at, offset, fingerprint, trace, cell = _ENTRY.unpack_from(stored)
        cell_at = _ENTRY.size + trace
        value_at = cell_at + cell
        trace, cell = stored[_ENTRY.size : cell_at], stored[cell_at:value_at]
        return cls(arrived_at, offset, fingerprint, trace, stored[value_at:], cell)


def pack_entries(
    arrivals: Sequence[int],
    offsets: Sequence[int],
    traces: Sequence[bytes],
    cells: Sequence[bytes],
    values: Sequence[bytes],
) -> Iterator[bytes]:
    """Many entries without fingerprints, each packed as `Entry.pack` does."""
    heads = map(_ENTRY.pack, arrivals, offsets, repeat(bytes(16)), map(len, traces), map(len, cells))
    return map(b"".join, zip(heads, traces, cells, values, strict=True))


def is_mark(stored: bytes) -> bool:
    """Whether what stands in a prediction's place says that feedback waits for it: a packed time."""
    return len(stored) == _TIME.size


def cell_key(cell: Cell) -> bytes:
    return CELL + _json(cell).encode()


def unpack_cell_key(key: bytes) -> Cell:
    return Cell(*json.loads(key[1:]))


def pack_counts(counts: Counts) -> bytes:
    return _json(counts).encode()  # exact, however large a sum of weights gets


def unpack_counts(stored: bytes) -> Counts:
    return Counts(*json.loads(stored))


def pack_review(review: Review) -> bytes:
    return _json(review).encode()


def unpack_review(stored: bytes | None) -> Review:
    if stored is None:
        return Review()
    correction, grade = json.loads(stored)
    return Review(correction and Correcting(*correction), grade and Grading(*grade))


def pack_time(milliseconds: int) -> bytes:
    return _TIME.pack(milliseconds)


def unpack_time(stored: bytes) -> int:
    return int(_TIME.unpack(stored)[0])


def expiry_key(arrived_at: int, write: int = 0, part: int = 0) -> bytes:
    """Ordered by time; the sign bit is flipped so that negative times sort first."""
    return EXPIRY + _EXPIRY.pack(arrived_at + (1 << 63), write, part)


def pack_keys(keys: Sequence[bytes]) -> bytes:
    """Keys of one length."""
    return _LENGTH.pack(len(keys[0])) + b"".join(keys)


def unpack_keys(stored: bytes) -> list[bytes]:
    (length,) = _LENGTH.unpack_from(stored)
    return [stored[i : i + length] for i in range(_LENGTH.size, len(stored), length)]


@dataclass(frozen=True)
class Origin:
    """Whose state this is: a state of another origin is foreign, discarded and rebuilt from Kafka."""

    cluster_id: str
    topic_ids: dict[str, str]
    partition: int
    window_ms: int
    derive_version: int = DERIVE_VERSION
    layout: int = LAYOUT
    schemas: str = field(default_factory=lambda: _schemas_digest())


@dataclass
class Meta:
    """The part of a partition's state that says how far it is."""

    origin: Origin
    partitions: int
    applied: dict[str, int] = field(default_factory=dict)
    """Next offset by raw topic: everything before it is in the state."""
    watermarks: dict[str, int] = field(default_factory=dict)
    """Latest arrival (ms) by raw topic."""

    def copy(self) -> Meta:
        """One whose offsets and watermarks can be moved on."""
        return replace(self, applied=dict(self.applied), watermarks=dict(self.watermarks))

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, stored: bytes) -> Meta:
        found = json.loads(stored)
        return cls(Origin(**{"layout": 1, **found.pop("origin")}), **found)


def _schemas_digest() -> str:
    """Stored fingerprints are over decoded events, so a new field makes older state incomparable: rebuild it."""
    texts = "".join(bundled(record).canonical for record in ("Prediction", "Correction", "Grade"))
    return blake2b(texts.encode(), digest_size=8).hexdigest()


class Store:
    """One partition's RocksDB. `write` is atomic; the write-ahead log survives a killed process.

    A copy that was made while a worker wrote, or a lost file, can open without complaint and lack writes from the
    middle. So each write puts a link and deletes the one before: where writes are missing, an older link is left over.
    """

    def __init__(self, path: Path, cache: Cache, buffers: WriteBufferManager) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_keep_log_file_num(2)
        options.set_write_buffer_size(32 << 20)
        options.set_write_buffer_manager(buffers)
        options.set_memtable_prefix_bloom_ratio(0.05)  # most keys that are looked up are not there
        options.set_memtable_whole_key_filtering(True)
        blocks = BlockBasedOptions()
        blocks.set_block_size(16 << 10)
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(cache)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(DBCompressionType.lz4())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        if (path / _UNREADABLE).exists():
            raise BrokenState("Corruption: some of it could not be read")
        self._db = Rdict(str(path), options)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign, assignment]  # its stub takes the setter for a method
        self._replaying = self._unsure = False
        try:
            self._writes = self._last_write()
        except BaseException:
            self._db.close()
            raise

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys in one look-up, None for those that are not there. Raises BrokenState."""
        try:
            return cast(list[bytes | None], self._db[list(keys)]) if keys else []
        except Exception as error:  # rocksdict raises plain Exception
            raise self._unreadable(error) from error

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All entries whose key starts with `prefix`, in key order, from `start` on. Raises BrokenState."""
        iterator = self._db.iter()
        iterator.seek(max(prefix, start))
        while iterator.valid() and (key := iterator.key()).startswith(prefix):
            yield key, iterator.value()
            iterator.next()
        if not iterator.valid():
            try:
                iterator.status()  # at a broken block the iterator ends just as at the last key
            except Exception as error:
                raise self._unreadable(error) from error

    @property
    def next_write(self) -> int:
        """The number of the next write."""
        return self._writes + 1

    def write(self, writes: Writes) -> None:
        """Apply all of it or nothing."""
        changes = WriteBatch(raw_mode=True)
        for key in sorted(writes):  # RocksDB puts neighbours in its table faster than it finds a place for each
            value = writes[key]
            if value is None:
                changes.delete(key)
            else:
                changes.put(key, value)
        changes.put(_link(self._writes + 1), b"")
        if self._writes > 1:
            changes.delete(_link(self._writes))
        if self._replaying:
            self._unsure = True
            self._db.write(changes, self._unlogged)
        else:
            self._db.write(changes)
        self._writes += 1

    def begin_replay(self) -> None:
        """Let writes go past the log until `end_replay`: a killed process loses the latest of them, in their order.

        And merge files later: while so much comes in, most of that work would soon be done again.
        """
        self._replaying = True
        self._db.set_options(_MERGE_LATER)

    def end_replay(self) -> None:
        """Make sure of what was written meanwhile. Raises BrokenState where it cannot be.

        Nothing may be logged before: it would outlive a kill, and what it rests on would not.
        """
        if self._unsure:
            try:
                self._db.flush(True)
            except Exception as error:  # rocksdict raises plain Exception
                raise BrokenState(f"the state in {self._path} cannot be written: {error}. {MEND}") from error
        self._db.set_options(_MERGE_SOON)
        self._replaying = self._unsure = False

    def meta(self) -> Meta | None:
        """How far this state is, None for a new one."""
        stored = self.get([META])[0]
        return None if stored is None else Meta.unpack(stored)

    def close(self) -> None:
        self._db.close()

    def _last_write(self) -> int:
        """The number of the last write, 0 in an empty store. Raises BrokenState where writes are missing."""
        links = [int.from_bytes(key[1:], "big") for key, _ in self.scan(LINK)]
        if links[:1] not in ([], [1]) or len(links) > 2 or (not links and any(True for _ in self.scan(b""))):
            raise BrokenState(f"Corruption: writes are missing after the {max(links[:-1], default=0)}th")
        return max(links, default=0)

    def _unreadable(self, error: Exception) -> BrokenState:
        with suppress(OSError):
            (self._path / _UNREADABLE).touch()
        return BrokenState(
            f"cannot read the state in {self._path}: {error}. Start this worker again: it will be restored from Kafka"
        )


class StateFolder:
    """A worker's state folder: locked by one process, with the worker's stable id and a store for each partition.

    Raises RefusedToStart where another process holds the folder, BrokenState where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RefusedToStart(
                f"another worker uses the state folder {path}: give each worker its own FLYBACK_STATE_DIR"
            ) from None
        self._stores: dict[int, Store] = {}
        self._cache = Cache(64 << 20)
        # of all partitions together: each by itself may hold two full buffers
        self._buffers = WriteBufferManager(64 << 20, allow_stall=False)
        self.worker_id = self._worker_id()

    def _worker_id(self) -> str:
        file = self.path / "worker_id"
        if file.exists():
            known = file.read_text(encoding="utf-8", errors="replace").strip()
            if _WORKER_ID.fullmatch(known):
                return known
            log.warning("the worker's id is not readable: a new one is made", file=str(file))
        made = f"worker-{uuid.uuid4().hex[:12]}"
        aside = file.with_suffix(".new")
        with _disk_errors(self.path):
            aside.write_text(made, encoding="utf-8")
            aside.replace(file)
        return made

    def store(self, partition: int) -> Store:
        """The partition's store, opened once. A broken one is made anew: Kafka has all that was in it."""
        if partition not in self._stores:
            path = self.path / f"partition-{partition}"
            try:
                self._stores[partition] = self._opened(path)
            except Exception as error:  # rocksdict raises plain Exception
                raise BrokenState(f"cannot open the state in {path}: {error}. {MEND}") from error
        return self._stores[partition]

    def _opened(self, path: Path) -> Store:
        try:
            return Store(path, self._cache, self._buffers)
        except Exception as error:
            if not any(sign in str(error) for sign in _BROKEN):
                raise
            log.warning("state is corrupt: discarded, it will be restored from Kafka", path=str(path))
            shutil.rmtree(path)
            return Store(path, self._cache, self._buffers)

    def discard(self, partition: int) -> Store:
        """Throw the partition's store away and open an empty one."""
        if (store := self._stores.pop(partition, None)) is not None:
            store.close()
        path = self.path / f"partition-{partition}"
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass
        except OSError as error:  # what is left of it must not pass for the new state
            raise BrokenState(f"cannot delete the state in {path}: {error.strerror}; delete it by hand") from error
        return self.store(partition)

    def close(self) -> None:
        """Close what is open and give the lock back. Raises nothing: what a full disk refuses, Kafka still has."""
        for number, store in self._stores.items():
            try:
                store.close()
            except Exception as error:  # rocksdict raises plain Exception
                log.warning("the state was not closed in order", partition=number, reason=str(error))
        self._stores.clear()
        self._lock.close()


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BrokenState(f"cannot write to the state folder {path}: {error.strerror}. {MEND}") from error
