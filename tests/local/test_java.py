"""Finding Java, and fetching jars once."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from flyback.errors import BrokerError
from flyback.local import java
from flyback.local.java import MissingTool, fetch_once, find_java, run_maven


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with neither Java nor Maven; gives its only folder of programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return programs


def test_without_java_the_error_says_what_to_do(bare_machine: Path) -> None:
    with pytest.raises(MissingTool, match=r"Java 17 or newer is needed: no java .* or take the bus"):
        find_java(17, "take the bus")


def test_java_that_is_too_old_is_named_with_its_version(bare_machine: Path) -> None:
    executable(bare_machine / "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(MissingTool, match=r"bin/java is Java 11"):
        find_java(17, "take the bus")


def test_java_home_comes_before_the_path_unless_it_is_too_old(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = executable(bare_machine / "java", """echo 'openjdk version "21.0.8" 2025-07-15 LTS' >&2""")
    at_home = executable(tmp_path / "jdk" / "bin" / "java", """echo 'openjdk version "17" 2021-09-14' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java(17, "") == at_home
    assert find_java(21, "") == on_path


def test_java_8s_old_numbering_is_understood(bare_machine: Path) -> None:
    executable(bare_machine / "java", """echo 'java version "1.8.0_392"' >&2""")
    with pytest.raises(MissingTool, match="is Java 8"):
        find_java(17, "")


def test_without_maven_the_error_says_what_to_do(bare_machine: Path) -> None:
    with pytest.raises(MissingTool, match=r"no mvn on the PATH: install Maven.* or take the bus"):
        run_maven(["validate"], "take the bus")


def test_mavens_own_complaint_is_part_of_the_error(bare_machine: Path) -> None:
    executable(bare_machine / "mvn", "echo 'Could not transfer artifact'; exit 1")
    with pytest.raises(BrokerError, match=r"exit code 1(.|\n)*Could not transfer artifact(.|\n)*take the bus"):
        run_maven(["validate"], "take the bus")


def test_what_was_fetched_is_not_fetched_again(bare_machine: Path, tmp_path: Path) -> None:
    fetched = fetch_once("jars-1", lambda folder: (folder / "a.jar").touch())
    assert fetched == tmp_path / "cache" / "flyback" / "jars-1"
    assert fetch_once("jars-1", lambda folder: pytest.fail("fetched twice")) == fetched


def test_a_fetch_that_fails_leaves_nothing_behind(bare_machine: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half.jar").touch()
        raise BrokerError("network down")

    with pytest.raises(BrokerError, match="network down"):
        fetch_once("jars-1", broken)
    assert list(java.cache_folder().iterdir()) == []


def test_two_that_fetch_at_once_both_get_the_whole(bare_machine: Path) -> None:
    both = Barrier(2)

    def fetch(folder: Path) -> None:
        both.wait(20)
        (folder / "a.jar").touch()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch_once("jars-1", fetch), range(2))
    assert first == second
    assert [path.name for path in java.cache_folder().rglob("*")] == ["jars-1", "a.jar"]


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert java.cache_folder() == Path.home() / ".cache" / "flyback"
