"""Full and read-only disks, and what state and lake make of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyback.errors import BrokenState, LakeError
from flyback.sinks.lake import lake
from flyback.sinks.tables import landed
from flyback.streams.state import StateFolder, Store
from tests import brokers
from tests.chaos.disks import CannotMount, SmallDisk, small_disk
from tests.conftest import ENVIRONMENT
from tests.sinks.test_tables import PLACE, commit, rows, writer

MEGABYTES = 16


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", MEGABYTES) as mounted:
            yield mounted
    except CannotMount as refusal:
        brokers.not_available(ENVIRONMENT, str(refusal))


def test_a_filled_disk_takes_nothing_and_a_cleared_one_everything(disk: SmallDisk) -> None:
    file = disk.path / "file"
    disk.fill()
    with pytest.raises(OSError) as refused:
        file.write_bytes(b"x")
    assert refused.value.errno == errno.ENOSPC
    disk.leave(8192)
    file.write_bytes(b"x" * 4096)
    disk.clear()
    file.write_bytes(b"x" * 1_000_000)


def test_a_read_only_disk_can_be_read(disk: SmallDisk) -> None:
    file = disk.path / "file"
    file.write_bytes(b"x")
    disk.refuse_writes()
    with pytest.raises(OSError) as refused:
        file.write_bytes(b"y")
    assert refused.value.errno == errno.EROFS
    assert file.read_bytes() == b"x"
    disk.allow_writes()
    file.write_bytes(b"y")


def write_until_full(store: Store, begin: int) -> int:
    """The number after the last batch that was written; the disk is filled when a hundred are."""
    for number in range(begin, begin + 100_000):
        try:
            store.write({b"k%08d" % number: os.urandom(500), b"m": b"%d" % number})
        except Exception as error:
            assert "No space left on device" in str(error)
            return number
    raise AssertionError("the disk is never full")


def test_a_state_whose_disk_was_full_holds_all_that_was_written_and_nothing_else(disk: SmallDisk) -> None:
    written = 0
    for leave in (0, 4096, 65_536):
        folder = StateFolder(disk.path / "state")
        for number in range(written, written + 100):
            folder.store(0).write({b"k%08d" % number: os.urandom(500), b"m": b"%d" % number})
        disk.fill()
        disk.leave(leave)
        written = write_until_full(folder.store(0), written + 100)
        folder.close()

        full = StateFolder(disk.path / "state")
        with pytest.raises(BrokenState, match=r"No space left on device.*make room"):
            full.store(0)
        full.close()

        disk.clear()
        again = StateFolder(disk.path / "state")
        assert [key for key, _ in again.store(0).scan(b"k")] == [b"k%08d" % number for number in range(written)]
        assert again.store(0).get([b"m"]) == [b"%d" % (written - 1)]
        again.close()


def test_a_state_folder_that_cannot_be_made_says_where_and_why(disk: SmallDisk) -> None:
    disk.refuse_writes()
    with pytest.raises(BrokenState, match=f"{disk.path}/state: Read-only file system"):
        StateFolder(disk.path / "state")
    disk.allow_writes()
    disk.fill()
    with pytest.raises(BrokenState, match=f"{disk.path}/state: No space left on device"):
        StateFolder(disk.path / "state")
    disk.clear()
    StateFolder(disk.path / "state").close()


def test_a_commit_to_a_full_lake_fails_whole_says_why_and_works_once_there_is_room(disk: SmallDisk) -> None:
    sink = writer(disk.path)
    commit(sink, 0, 100)
    disk.fill()
    unread = 0
    for _ in range(20):  # from room for nothing to room for the rows, but not for the entry in the log
        with pytest.raises(LakeError, match="No space left on device") as refused:
            commit(sink, 100, 100)
        assert "\x1b" not in str(refused.value)
        assert rows(disk.path) == 100
        assert landed(str(disk.path)) == {PLACE: 100}
        unread = len(list((disk.path / "predictions").glob("*.parquet"))) - 1
        if unread:
            break
        disk.leave(4096)
    assert unread == 1, "the rows were written, and their commit was not"
    with lake(str(disk.path)) as tables:
        assert tables.sql("select count(*) from predictions").fetchall() == [(100,)]

    disk.clear()
    commit(sink, 100, 100)
    assert rows(disk.path) == 200
    assert landed(str(disk.path)) == {PLACE: 200}
    with lake(str(disk.path)) as tables:
        assert tables.sql("select count(*) from predictions").fetchall() == [(200,)]


def test_a_commit_to_a_read_only_lake_fails_says_why_and_works_afterwards(disk: SmallDisk) -> None:
    disk.refuse_writes()
    sink = writer(disk.path)
    with pytest.raises(LakeError, match="Read-only file system"):
        commit(sink, 0, 100)
    disk.allow_writes()
    commit(sink, 0, 100)
    disk.refuse_writes()
    with pytest.raises(LakeError, match="Read-only file system"):
        commit(sink, 100, 100)
    assert writer(disk.path).open() == {PLACE: 100}
    disk.allow_writes()
    commit(sink, 100, 100)
    assert rows(disk.path) == 200
