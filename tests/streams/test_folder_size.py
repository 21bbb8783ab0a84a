"""The size of a folder that somebody writes to."""

from __future__ import annotations

from pathlib import Path

from flyback.streams.folder_size import FolderSize, bytes_in


def test_the_size_is_that_of_the_files_as_of_a_few_seconds_ago(tmp_path: Path) -> None:
    now = 0.0
    size = FolderSize(tmp_path, clock=lambda: now)
    (tmp_path / "a").write_bytes(b"12345")
    assert size() == 5
    (tmp_path / "b").write_bytes(b"678")
    now = 4.9
    assert size() == 5
    now = 5.0
    assert size() == 8


def test_a_folder_that_is_gone_takes_no_room(tmp_path: Path) -> None:
    assert bytes_in(tmp_path / "nothing") == 0
