"""One compaction at a time.

delta-rs does not notice when two processes merge the same files: both results stay, and every row is there twice.
In a folder a file lock keeps others out for as long as its holder lives. On an object store a lease, kept like the
offsets as an app transaction, does so for an hour.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from flyback.errors import LakeError
from flyback.sinks.storage import is_remote, lake_errors, open_table, table_path
from flyback.sinks.tables import Table

_APP_ID = "flyback/maintenance"
LEASE_MS = 3_600_000


@contextmanager
def exclusive(lake: str, table: Table) -> Iterator[None]:
    """Keep other compactions of this table out. Raises LakeError where one is under way."""
    lock = _leased(lake, table) if is_remote(lake) else _locked(lake, table)
    with lock:
        yield


@contextmanager
def _locked(lake: str, table: Table) -> Iterator[None]:
    # vacuum leaves names that begin with "_" alone
    path = Path(table_path(lake, table.name)) / "_flyback.lock"
    with lake_errors(str(path)):
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(path.parent) from None
        yield  # closing the file gives the lock back, and so does the end of the process


@contextmanager
def _leased(lake: str, table: Table) -> Iterator[None]:
    path = table_path(lake, table.name)
    now = time.time_ns() // 1_000_000
    until = now + LEASE_MS
    handle = _open(lake, table)
    if (handle.transaction_version(_APP_ID) or 0) > now:
        raise _taken(path)
    try:
        _sign(handle, table, path, until)
    except CommitFailedError:
        raise _taken(path) from None
    yield
    handle = _open(lake, table)
    if handle.transaction_version(_APP_ID) == until:
        _sign(handle, table, path, 0)


def _sign(handle: DeltaTable, table: Table, path: str, until: int) -> None:
    """Set the end of the lease. Delta refuses it where another one was signed since the handle was opened."""
    properties = CommitProperties(app_transactions=[Transaction(_APP_ID, until)], max_commit_retries=100)
    write_deltalake(handle, table.schema.empty_table(), mode="append", commit_properties=properties)


def _open(lake: str, table: Table) -> DeltaTable:
    handle = open_table(lake, table.name)
    if handle is None:
        raise LakeError(f"{table_path(lake, table.name)}: there is no such table")
    return handle


def _taken(path: object) -> LakeError:
    return LakeError(f"{path}: another process compacts this table; try again when it is done")
