"""What `flyback doctor` says of this machine: its clock, its disks, its limits."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from flyback.doctor import lake, machine, state
from flyback.settings import Settings, load
from tests.streams.on_kafka import OnKafka
from tests.streams.records import a_prediction


def test_folders_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (folder,) = state.folder(load(state_dir=file / "state"), None)
    access = {check.name: check for check in lake.examine(load(lake=str(file)), None)}["lake access"]
    assert (folder.verdict, access.verdict) == ("failed", "failed")
    assert folder.found == f"this user may not write to {file}"
    assert access.found == f"{file} is no folder"


def test_a_folder_on_a_read_only_disk_is_told() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    read_only = [words[1] for words in mounts if "ro" in words[3].split(",") and Path(words[1]).is_dir()]
    if not read_only:
        pytest.skip("no disk is mounted read-only here")
    assert machine.unwritable(Path(read_only[0]) / "new") == f"{read_only[0]} is on a disk that is mounted read-only"


@pytest.mark.parametrize(("free", "verdict"), [(1e9, "warning"), (1e8, "failed"), (1e10, "ok")])
def test_a_disk_that_fills_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str
) -> None:
    actual = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: actual._replace(free=int(free)))
    found = machine.space("lake space", tmp_path / "not" / "yet", "FLYBACK_LAKE")
    assert found.verdict == verdict
    assert verdict == "ok" or "FLYBACK_LAKE" in str(found.mend)


@pytest.mark.parametrize(
    ("ahead", "verdict", "says"),
    [(0.0, "ok", "no further ahead"), (-30.0, "warning", "in the future"), (3600.0, "skipped", "too long ago")],
)
def test_the_clock_is_compared_with_the_newest_event(settings: Settings, ahead: float, verdict: str, says: str) -> None:
    """`ahead`: how far this machine's clock is ahead of the broker's, in seconds."""
    kafka = OnKafka(settings)
    kafka.send(a_prediction())
    found = machine.clock(settings, now=time.time() + ahead)
    assert found.verdict == verdict
    assert says in found.found


@pytest.mark.parametrize(("limit", "verdict"), [(1024, "warning"), (65_536, "ok"), (-1, "ok")])
def test_a_low_limit_of_open_files_is_told(limit: int, verdict: str) -> None:
    assert machine.open_files(limit).verdict == verdict
