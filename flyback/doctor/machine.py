"""This machine: its clock, its disks, its limits."""

from __future__ import annotations

import os
import resource
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from flyback import history
from flyback.doctor.check import Check, failed, ok, skipped, warning
from flyback.errors import FlybackError
from flyback.settings import Settings
from flyback.streams.topology import Topology

_MINUTE = 60.0
_SKEW_SECONDS = 2.0
_LITTLE, _TOO_LITTLE = 2_000_000_000, 200_000_000  # bytes
_FILES = 4_096


def clock(settings: Settings, now: float | None = None) -> Check:
    """This machine's clock against the brokers', which stamp raw events.

    No request of Kafka's tells its time, and to write an event for it would not be ours to do. But an event cannot have
    arrived in the future, and one that arrived just now has not been there for long: so the newest event bounds the
    difference, as closely as events are recent.
    """
    name = "clock"
    try:
        bounds = history.bounds(settings, Topology(settings).raw)
        newest = {place: end - 1 for place, (first, end) in bounds.items() if first < end}
        stamps = [m.timestamp()[1] / 1000 for m in history.read_from(settings, newest, 1)] if newest else []
    except FlybackError as error:
        return skipped(name, str(error))
    if not stamps:
        return skipped(name, "no raw event is there to compare with: the brokers' time is known by their stamps only")
    ahead = max(stamps) - (time.time() if now is None else now)
    when = f"{datetime.fromtimestamp(max(stamps), UTC):%Y-%m-%d %H:%M:%S} UTC"
    if ahead > _SKEW_SECONDS:
        return warning(
            name,
            f"the newest event arrived at {when}, {ahead:.0f} s in the future: this machine's clock is behind the "
            "brokers'. The join goes by the brokers' time and is right; lags and rate windows are not",
            "run chrony or ntpd here and on the brokers",
        )
    if ahead < -_MINUTE:
        return skipped(
            name, f"the newest event arrived at {when}: too long ago to tell whether this clock is ahead; not behind"
        )
    return ok(name, f"the newest event arrived {max(0.0, -ahead):.0f} s ago: no further ahead of the brokers than that")


def open_files(limit: int | None = None) -> Check:
    """How many files a process may open: RocksDB keeps all of a partition's open, Kafka's clients their sockets."""
    name = "open files"
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if allowed == resource.RLIM_INFINITY or allowed >= _FILES:
        return ok(name, "no limit" if allowed == resource.RLIM_INFINITY else f"up to {allowed}")
    return warning(
        name,
        f"a process may open {allowed} files: a worker with a large state (64 MB a file) stops at that",
        "type `ulimit -n 65536` before the worker starts; for systemd LimitNOFILE=65536",
    )


def space(name: str, folder: Path, setting: str) -> Check:
    """Free space where a folder is, or will be."""
    free = shutil.disk_usage(existing(folder)).free
    if free >= _LITTLE:
        return ok(name, f"{free / 1e9:.1f} GB free")
    found = f"{free / 1e6:.0f} MB free where {folder} is"
    mend = f"make room, or move the folder to a larger disk and set {setting}"
    return failed(name, found, mend) if free < _TOO_LITTLE else warning(name, found, mend)


def unwritable(folder: Path) -> str | None:
    """Why files cannot be made in a folder (or the folder itself), None where they can. Nothing is written."""
    if folder.exists() and not folder.is_dir():
        return f"{folder} is no folder"
    there = existing(folder)
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{there} is on a disk that is mounted read-only"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return f"this user may not write to {there}"
    return None


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())
