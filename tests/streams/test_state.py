"""The worker's state: what is packed comes back, keys sort, and a folder belongs to one worker."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyback.errors import BrokenState, RefusedToStart
from flyback.schemas.codec import Schema
from flyback.streams import entries, state
from flyback.streams.state import Meta, Origin, StateFolder, Store

LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=20)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    found = StateFolder(tmp_path)
    yield found
    found.close()


@given(
    st.builds(Origin, TEXT, st.dictionaries(TEXT, TEXT, max_size=3), st.integers(0, 100), LONG, LONG, TEXT),
    st.integers(1, 1000),
    st.dictionaries(TEXT, LONG, max_size=3),
    st.dictionaries(TEXT, LONG, max_size=3),
)
def test_meta_comes_back_as_it_was(
    origin: Origin, partitions: int, applied: dict[str, int], watermarks: dict[str, int]
) -> None:
    meta = Meta(origin, partitions, applied, watermarks)
    assert Meta.unpack(meta.pack()) == meta


def test_a_scan_gives_one_prefix_in_key_order_from_its_start(folder: StateFolder) -> None:
    store = folder.store(0)
    names = [b"a\xff", b"b", b"b\x00", b"b\x01", b"b\xff\xff", b"c"]
    store.write({name: name for name in reversed(names)})
    assert [key for key, _ in store.scan(b"b")] == names[1:5]
    assert [key for key, _ in store.scan(b"b", start=b"b\x01")] == names[3:5]
    assert [key for key, _ in store.scan(b"b", start=b"a")] == names[1:5]
    assert list(store.scan(b"d")) == []


def test_times_on_both_sides_of_1970_are_scanned_in_order(folder: StateFolder) -> None:
    times = [-(2**63), -1, 0, 1, 2**63 - 1]
    store = folder.store(0)
    store.write({entries.expiry_key(time): b"%d" % time for time in times})
    assert [int(value) for _, value in store.scan(entries.EXPIRY)] == times


def test_many_keys_are_looked_up_in_their_order(folder: StateFolder) -> None:
    store = folder.store(0)
    store.write({b"a": b"1", b"b": b"", b"c": b"3"})
    assert store.get([b"c", b"x", b"b", b"a", b"c"]) == [b"3", None, b"", b"1", b"3"]
    assert store.get([]) == []


def test_none_deletes(folder: StateFolder) -> None:
    store = folder.store(0)
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"a": None, b"never": None, b"b": b"3"})
    assert kept(store) == [(b"b", b"3")]


def test_a_new_store_has_no_meta(folder: StateFolder) -> None:
    assert folder.store(0).meta() is None
    meta = Meta(Origin("c", {"t": "i"}, 0, 5), 4, {"t": 7}, {"t": 8})
    folder.store(0).write({state.META: meta.pack()})
    assert folder.store(0).meta() == meta


def test_state_and_worker_id_outlive_the_worker(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    first.store(3).write({b"a": b"1"})
    first.close()
    second = StateFolder(tmp_path)
    assert second.worker_id == first.worker_id
    assert second.store(3).get([b"a"]) == [b"1"]
    second.close()


def test_two_folders_have_different_worker_ids(tmp_path: Path) -> None:
    folders = [StateFolder(tmp_path / name) for name in "ab"]
    assert folders[0].worker_id != folders[1].worker_id
    for each in folders:
        each.close()


@pytest.mark.parametrize("content", [b"\n", b"\xff\x00", b"a b", b"x" * 5000])
def test_a_worker_id_that_is_none_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker_id").write_bytes(content)
    folder = StateFolder(tmp_path)
    assert folder.worker_id.startswith("worker-")
    folder.close()


def _open(path: Path, answer: Any) -> None:
    try:
        StateFolder(path)
    except RefusedToStart as error:
        answer.send(str(error))
    else:
        answer.send("opened")


def test_a_second_process_is_refused_and_told_what_to_do(folder: StateFolder) -> None:
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=_open, args=(folder.path, theirs))
    other.start()
    other.join(60)
    said = ours.recv()
    assert str(folder.path) in said
    assert "FLYBACK_STATE_DIR" in said


def test_a_killed_worker_holds_no_lock_and_loses_no_write(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from flyback.streams.state import StateFolder;"
        "StateFolder(Path(sys.argv[1])).store(0).write({b'a': b'1', b'b': b'2'}); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60)
    assert killed.returncode == -9
    folder = StateFolder(tmp_path)
    assert kept(folder.store(0)) == [(b"a", b"1"), (b"b", b"2")]
    folder.close()


def kept(store: Store) -> list[tuple[bytes, bytes]]:
    """All entries that somebody has written."""
    return [(key, value) for key, value in store.scan(b"") if not key.startswith(state.LINK)]


def test_a_worker_killed_while_it_replays_loses_the_latest_writes_and_none_before(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from flyback.streams.state import StateFolder;"
        "store = StateFolder(Path(sys.argv[1])).store(0);"
        "store.write({b'a': b'logged'}); store.begin_replay(); store.write({b'b': b'replayed'}); store.end_replay();"
        "store.write({b'c': b'logged'}); store.begin_replay();"
        "[store.write({b'd%d' % i: b'replayed'}) for i in range(5)]; os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60)
    assert killed.returncode == -9
    folder = StateFolder(tmp_path)
    found = [key for key, _ in kept(folder.store(0))]
    folder.close()
    assert found == [b"a", b"b", b"c", b"d0", b"d1", b"d2", b"d3", b"d4"][: len(found)]
    assert len(found) >= 3


def test_a_state_laid_out_otherwise_is_foreign() -> None:
    now = Meta(Origin("c", {}, 0, 1), 1)
    before = json.loads(now.pack())
    del before["origin"]["layout"]  # as before there was more than one
    assert Meta.unpack(now.pack()).origin == now.origin
    assert Meta.unpack(json.dumps(before).encode()).origin != now.origin


def files(path: Path, pattern: str) -> list[Path]:
    found = list(path.glob(pattern))
    assert found
    return found


def _cut(path: Path, pattern: str) -> None:
    for file in files(path, pattern):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove(path: Path, pattern: str) -> None:
    for file in files(path, pattern):
        file.unlink()


@pytest.mark.parametrize("damage", [_cut, _remove])
@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST*", "*.sst"])
def test_a_damaged_store_is_made_anew(tmp_path: Path, damage: Callable[[Path, str], None], pattern: str) -> None:
    before = StateFolder(tmp_path)
    before.store(0).write({b"a": b"1"})
    before.store(1).write({b"a": b"1"})
    before.close()
    again = StateFolder(tmp_path)  # what was only in the write-ahead log is put into a file of its own
    again.store(0)
    again.close()
    damage(tmp_path / "partition-0", pattern)
    folder = StateFolder(tmp_path)
    assert kept(folder.store(0)) == []
    assert folder.store(1).get([b"a"]) == [b"1"]
    folder.store(0).write({b"b": b"2"})
    assert folder.store(0).get([b"b"]) == [b"2"]
    folder.close()


def test_a_broken_block_is_an_error_and_not_the_end_of_the_keys(tmp_path: Path) -> None:
    keys = [b"k%05d" % i for i in range(20_000)]
    before = StateFolder(tmp_path)
    before.store(0).write({key: os.urandom(100) for key in keys})
    before.close()
    again = StateFolder(tmp_path)
    again.store(0)
    again.close()
    largest = max(files(tmp_path / "partition-0", "*.sst"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = bytes(5000)
    largest.write_bytes(content)
    folder = StateFolder(tmp_path)
    with pytest.raises(BrokenState, match=r"partition-0: .* it will be restored"):
        list(folder.store(0).scan(b"k"))
    with pytest.raises(BrokenState, match=r"partition-0: .* it will be restored"):
        folder.store(0).get(keys)
    folder.close()
    after = StateFolder(tmp_path)
    assert kept(after.store(0)) == []
    after.close()


def test_a_store_that_lacks_writes_in_the_middle_is_made_anew(tmp_path: Path) -> None:
    """As a copy that is taken while a worker writes: its list of files is older than its last log."""
    path, copy = tmp_path / "partition-0", tmp_path / "copy" / "partition-0"
    for number in range(5):
        folder = StateFolder(tmp_path)
        folder.store(0).write({b"%d" % number: b""})
        if number == 2:
            shutil.copytree(path, copy)
        if number == 4:
            for file in files(path, "*.log"):
                shutil.copy(file, copy)
        folder.close()
    opened = StateFolder(copy.parent)
    assert kept(opened.store(0)) == []
    opened.close()


def test_a_store_that_only_lacks_its_last_writes_is_kept(tmp_path: Path) -> None:
    for number in range(4):
        folder = StateFolder(tmp_path)
        folder.store(0).write({b"%d" % number: b""})
        if number == 2:
            shutil.copytree(tmp_path / "partition-0", tmp_path / "copy" / "partition-0")
        folder.close()
    opened = StateFolder(tmp_path / "copy")
    assert [key for key, _ in kept(opened.store(0))] == [b"0", b"1", b"2"]
    opened.close()


def test_a_store_that_cannot_be_opened_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "partition-0").write_text("a file in its place")
    folder = StateFolder(tmp_path)
    with pytest.raises(BrokenState, match="partition-0"):
        folder.store(0)
    folder.close()


def test_a_discarded_store_is_empty_and_the_others_stay(folder: StateFolder) -> None:
    for partition in (0, 1):
        folder.store(partition).write({b"a": b"1"})
    assert kept(folder.discard(0)) == []
    assert kept(folder.store(0)) == []
    assert folder.store(1).get([b"a"]) == [b"1"]


def test_a_store_that_was_never_opened_can_be_discarded(folder: StateFolder) -> None:
    assert kept(folder.discard(5)) == []


def test_a_store_that_cannot_be_deleted_does_not_pass_for_a_new_one(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.store(0).write({b"a": b"1"})

    def refuse(_: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    # as root no permission is refused, so that the folder's own cannot be used here
    monkeypatch.setattr("flyback.streams.state.shutil.rmtree", refuse)
    with pytest.raises(BrokenState, match="partition-0: Permission denied"):
        folder.discard(0)


def test_a_store_is_opened_once(folder: StateFolder) -> None:
    assert folder.store(0) is folder.store(0)


def test_what_another_version_s_schemas_made_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Origin("c", {}, 0, 1)
    assert now == Origin("c", {}, 0, 1)
    monkeypatch.setattr(state, "bundled", lambda record: Schema(f'{{"name": "{record}", "doc": "as it was"}}'))
    assert Origin("c", {}, 0, 1) != now
