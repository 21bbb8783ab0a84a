"""What a worker remembers: one RocksDB for each partition, behind Kafka or level with it, never ahead.

Its keys are in `flyback.streams.entries`.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import cast

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

log = get_logger(__name__)

META, LINK = b"m", b"l"
_BROKEN = ("Corruption", "No such file")  # what RocksDB says of files that are damaged or missing
_UNREADABLE = "UNREADABLE"  # a file beside RocksDB's: some of it could not be read
_WORKER_ID = re.compile(r"[\w.-]{1,100}", re.ASCII)
MEND = "Kafka has everything; make room or mend the disk, then start this worker again"
"""What to do about a state that cannot be written."""

LAYOUT = 4
"""Raised whenever keys, entries or fingerprints change: a state that was laid out otherwise is rebuilt."""

# Files that lie over each other before RocksDB merges them, slows writes down, and stops them. By default it merges 4,
# and so rewrites everything three times as often; to look into 12 costs little, since they tell what they do not hold.
_MERGING = ("level0_file_num_compaction_trigger", "level0_slowdown_writes_trigger", "level0_stop_writes_trigger")
_SOON, _LATER = (12, 24, 36), (24, 48, 64)
_MERGE_SOON, _MERGE_LATER = (dict(zip(_MERGING, map(str, files), strict=True)) for files in (_SOON, _LATER))

Writes = Mapping[bytes, bytes | None]
"""New values by key; None deletes."""


def _link(write: int) -> bytes:
    return LINK + write.to_bytes(8, "big")


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
        merge, slow_down, stop = _SOON
        options.set_level_zero_file_num_compaction_trigger(merge)
        options.set_level_zero_slowdown_writes_trigger(slow_down)
        options.set_level_zero_stop_writes_trigger(stop)
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
            if not self._unsure:
                self._db.set_options(_MERGE_LATER)
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

    def end_replay(self) -> None:
        """Make sure of what was written meanwhile. Raises BrokenState where it cannot be.

        Nothing may be logged before: it would outlive a kill, and what it rests on would not.
        """
        if self._unsure:
            try:
                self._db.flush(True)
                self._db.set_options(_MERGE_SOON)
            except Exception as error:  # rocksdict raises plain Exception
                raise BrokenState(f"the state in {self._path} cannot be written: {error}. {MEND}") from error
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
