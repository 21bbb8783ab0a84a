"""`flyback bench` as a person types it; tests/docs/test_bench_page.py has a whole run."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench.test_run import topics_of
from tests.cli.conftest import Flyback
from tests.processes import running_in
from tests.waiting import eventually

Started = Callable[..., subprocess.Popen[str]]


def prefix_in(said: str) -> str:
    """Of the topics that it says it will make."""
    [prefix] = re.findall(r" topics (bench-[0-9a-f]+\.)\*,", said)
    return str(prefix)


def test_without_a_broker_it_says_where_it_looked(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.topics._SECONDS", 0.5)
    said = flyback("bench", "--bootstrap", "127.0.0.1:1")
    assert said.code == 1
    assert "no Kafka answers at 127.0.0.1:1" in said.err


def test_without_an_extra_it_names_it_at_once(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.cli.bench.find_spec", lambda name: None)
    said = flyback("bench", "--bootstrap", "127.0.0.1:1")
    assert said.code == 2
    assert "pip install 'flyback[worker]'" in said.err


def test_events_that_cannot_be_so_small_or_large_are_refused(flyback: Flyback) -> None:
    for size in ("10", "2000000"):
        said = flyback("bench", "--event-bytes", size)
        assert said.code == 2
        assert "must be from 300 to 1000000 (FLYBACK_MAX_EVENT_BYTES)" in said.err


def test_much_is_not_written_without_being_asked_to(flyback: Flyback, kafka_bootstrap: str) -> None:
    said = flyback("bench", "--bootstrap", kafka_bootstrap, "--events", "10000000")
    assert said.code == 2
    assert "It writes at most 25,012 MB to Kafka" in said.err
    assert "give --yes" in said.err
    assert topics_of(kafka_bootstrap, prefix_in(said.err)) == []


def test_on_a_terminal_it_asks_before_it_writes_much(
    flyback: Flyback, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyback.cli.bench.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    said = flyback("bench", "--bootstrap", kafka_bootstrap, "--events", "10000000", stdin="n\n")
    assert said.code == 1
    assert "Go on? [y/N]" in said.err
    assert topics_of(kafka_bootstrap, prefix_in(said.err)) == []


@pytest.mark.parametrize(
    ("number", "moment", "options"),
    [(signal.SIGTERM, "its topics are there", ()), (signal.SIGINT, "its worker runs", ("--events", "100"))],
)
def test_interrupted_it_leaves_nothing(
    started: Started, kafka_bootstrap: str, tmp_path: Path, number: int, moment: str, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "fast-disk"
    folder.mkdir()

    def processes() -> list[int]:
        return [pid for data in folder.glob("flyback-bench-*/data") for pid in running_in(data)]

    bench = started("bench", "--bootstrap", kafka_bootstrap, "--folder", str(folder), "--seconds", "60", *options)
    assert bench.stderr is not None
    prefix = prefix_in(bench.stderr.readline())
    reached = processes if options else lambda: topics_of(kafka_bootstrap, prefix)
    eventually(lambda: bench.poll() is not None or reached(), moment, 60)
    bench.send_signal(number)
    _, err = bench.communicate(timeout=60)
    assert bench.returncode == 130, err
    assert "its topics are deleted and nothing is left running" in err
    assert topics_of(kafka_bootstrap, prefix) == []
    assert processes() == []
    assert list(folder.iterdir()) == []
