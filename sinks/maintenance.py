"""Compaction and vacuum: many small commits to few large files, and old files away.

Neither changes a row. The offsets are app transactions, which compaction does not touch, so a sink may write meanwhile.
The log of a table is cut here too: every commit adds a file to it, and the more there are, the longer a commit takes.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from deltalake import DeltaTable

from flyback.errors import LakeError
from flyback.logs import get_logger
from flyback.settings import Settings
from flyback.sinks.lock import exclusive
from flyback.sinks.storage import is_remote, lake_errors, open_table, table_path
from flyback.sinks.tables import CHECKPOINT_INTERVAL, TABLES, Table, writer_properties

_log = get_logger(__name__)
SHORTEST_RETENTION = timedelta(hours=1)
"""Younger files may be of a commit that is still being written."""

_LOG_HOURS = 24  # that the log outlasts the files: many turns of maintenance
_KEPT_CHECKPOINT = 10  # one of so many
_ROWS = 1_000_000  # for the size of bloom filters: about what a compacted file holds


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done to one table, in files."""

    table: str
    merged: int = 0
    written: int = 0
    deleted: int = 0


def compact(lake: str, table: Table) -> Maintained:
    """Merge small files. Raises LakeError, also where another process compacts at the same time."""
    if open_table(lake, table.name) is None:
        return Maintained(table.name)
    with exclusive(lake, table), lake_errors(table_path(lake, table.name)):
        handle = open_table(lake, table.name)  # anew: the files to merge must be those of now
        assert handle is not None
        done = handle.optimize.compact(writer_properties=writer_properties(table, _ROWS))
    return Maintained(table.name, merged=done["numFilesRemoved"], written=done["numFilesAdded"])


def vacuum(lake: str, table: Table, retention: timedelta) -> Maintained:
    """Delete files, and entries of the log, that no version younger than `retention` (whole hours) needs.

    Older versions can then not be read any more. The retention is `SHORTEST_RETENTION` at least. Raises LakeError.
    """
    handle = open_table(lake, table.name)
    if handle is None:
        return Maintained(table.name)
    hours = math.ceil(max(retention, SHORTEST_RETENTION) / timedelta(hours=1))
    with lake_errors(table_path(lake, table.name)):
        _keep_log(lake, table, handle, hours + _LOG_HOURS)
        deleted = handle.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False)
        handle.cleanup_metadata()
        if not is_remote(lake):
            thin_checkpoints(Path(table_path(lake, table.name)) / "_delta_log", time.time())
    return Maintained(table.name, deleted=len(deleted))


def _keep_log(lake: str, table: Table, handle: DeltaTable, hours: int) -> None:
    """Say how long the log remembers versions, and which files are no longer needed.

    It must outlast the files: what a checkpoint has forgotten, vacuum does not find, and the file stays for ever.
    """
    kept = f"interval {hours} hours"
    wanted = {
        "delta.logRetentionDuration": kept,
        "delta.deletedFileRetentionDuration": kept,
        "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    }
    if wanted.items() - handle.metadata().configuration.items():
        with exclusive(lake, table):  # a change of properties makes a compaction at the same time fail
            handle.update_incremental()
            handle.alter.set_table_properties(wanted)


def thin_checkpoints(log: Path, now: float) -> None:
    """Delete most of the checkpoints in a folder's log that were replaced an hour before `now` (Unix time).

    All of them name the same files again, megabytes each. Every version can still be read, the ones between two that
    stay from more entries of the log.
    """
    stays: set[int] = set()
    for checkpoint in sorted(log.glob("*.checkpoint.parquet"))[:-1]:
        group = int(checkpoint.name.partition(".")[0]) // (_KEPT_CHECKPOINT * CHECKPOINT_INTERVAL)
        if group in stays and checkpoint.stat().st_mtime < now - SHORTEST_RETENTION.total_seconds():
            checkpoint.unlink(missing_ok=True)
        stays.add(group)


def maintain(settings: Settings) -> list[Maintained]:
    """Compact and vacuum every table once. Raises LakeError."""
    done = []
    for table in TABLES:
        merged = compact(settings.lake, table)
        deleted = vacuum(settings.lake, table, settings.vacuum_retention)
        done.append(Maintained(table.name, merged.merged, merged.written, deleted.deleted))
    return done


class Maintenance:
    """Runs `maintain` at intervals, beside the sink. An error is logged and tried again at the next turn."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin, unless FLYBACK_MAINTENANCE_INTERVAL is 0."""
        if self._settings.maintenance_interval > timedelta(0):
            self._thread.start()

    def stop(self) -> None:
        """Start nothing more. A running compaction is not waited for long: it commits at its end or not at all."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.maintenance_interval.total_seconds()):
            began = time.monotonic()
            try:
                done = maintain(self._settings)
            except LakeError as error:
                _log.warning("maintenance failed, tried again at the next turn", problem=str(error))
                continue
            _log.info(
                "maintenance",
                seconds=round(time.monotonic() - began, 1),
                merged={item.table: item.merged for item in done if item.merged},
                deleted={item.table: item.deleted for item in done if item.deleted},
            )
