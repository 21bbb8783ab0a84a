"""`flyback status`: readable for people, JSON for scripts."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from flyback.cli.status import summary
from flyback.local.process import free_port
from flyback.settings import Settings
from flyback.status import Joined, Landed, Status
from flyback.status.groups import Group, Member
from flyback.status.lag import DeadLetters, Lag
from tests.cli.conftest import Flyback

LATE = Lag("t.predictions.v1", 0, 10, 1500, 1450, False, 75.0)
DONE = Lag("t.corrections.v1", 0, 10, 10, 0, True, None)
TOPICS = [f"t.{name}" for name in ("predictions.v1", "graded-examples.v1.dlq")]


def a_status(**changed: object) -> Status:
    owner = Member("worker-0123456789ab", "10.0.0.7")
    partitions = [
        Joined(0, owner.name, owner.host, [LATE, DONE, DONE], True, 5, 5, 123_456_789, 900.0),
        Joined(1, owner.name, owner.host, [DONE, DONE, DONE], False, 1200, 50_000, 7, None),
        Joined(12, None, None, [DONE, DONE, DONE]),
    ]
    lags = [Lag(topic, p, 1, 9, 8 * p, True, 4.0 * p or None) for topic in TOPICS for p in range(10)]
    found = {
        "verdict": "behind",
        "at": 1_000.0,
        "streams": Group("g", "c", "stable", [owner], {0: owner, 1: owner}),
        "partitions": partitions,
        "sinks": [Landed("lake", "127.0.0.1:9465", lags, 999.5)],
        "windows": Group("t.app", "c", "stable", [owner], {}),
        "windows_lags": [DONE],
        "dead_letters": [DeadLetters("t.corrections.v1.dlq", 12_345, False, {"truncated": 900, "conflict": 100})],
        **changed,
    }
    return Status(**found)  # type: ignore[arg-type]


def test_the_first_line_says_whether_all_is_well_and_how_far_behind_it_is() -> None:
    assert summary(a_status()) == (
        "behind: workers ~1,450 events behind (oldest 0:01:15), lake 720 events behind (oldest 36 s), "
        "restoring partition 1 (2 %), 12,345 dead letters"
    )
    many = [Joined(number, "w", None, [DONE], live=False) for number in range(7)]
    assert "restoring partition 0 (waits), 1 (waits), 2 (waits), 3 (waits), 4 (waits) and 2 more" in summary(
        a_status(partitions=many)
    )
    assert summary(a_status(verdict="well", partitions=[], sinks=[], dead_letters=[])) == "well: workers at the end"


def test_the_text_fits_a_hundred_columns(
    flyback: Flyback, own_topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyback.status.examine", lambda *_: a_status(unknown=["worker at h:1 is away: its state"]))
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", "t.")
    said = flyback("status")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[1] == "unknown: worker at h:1 is away: its state"
    assert max(len(line) for line in lines[1:]) <= 100, said.out
    live, restoring, nobody = (line.strip() for line in lines if "worker-0" in line or "nobody" in line)
    for part in ("worker-0123456789ab", "~1,450", "0:01:15", "123 MB", "0:01:40", "live"):
        assert part in live
    assert restoring.endswith("2 %")
    assert nobody.split() == ["12", "nobody", "0", "0", "0", "?", "?", "?"]
    assert "1: 8, 2: 16, 3: 24, 4: 32, 5: 40 and 4 more" in said.out
    assert "900 truncated, 100 conflict" in said.out


def test_without_a_worker_it_exits_1_and_says_what_to_start(flyback: Flyback, own_topics: Settings) -> None:
    said = flyback("status", "--worker", f"127.0.0.1:{free_port()}", "--sink", f"127.0.0.1:{free_port()}")
    assert said.code == 1
    assert said.out.startswith("not well: workers at the end")
    assert "problem: no worker in group flyback-streams: start `flyback worker`" in said.out
    assert said.out.count("does not answer") == 2
    assert "every topic is landed to its end" in said.out


def test_the_json_has_everything(flyback: Flyback, own_topics: Settings) -> None:
    said = flyback("status", "--json")
    assert said.code == 1
    found = said.json
    assert (found["ok"], found["verdict"]) == (False, "not well")
    assert found["joining"] == found["landing"] == {"events": 0, "exact": True, "seconds": None}
    assert [partition["partition"] for partition in found["partitions"]] == [0, 1, 2, 3]
    assert {lag["topic"] for lag in found["sinks"][0]["lags"]} > {own_topics.topic_prefix + "predictions.v1"}


def test_it_can_be_watched_and_ends_quietly(
    own_topics: Settings, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started("status", "--watch", "--json")
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert seen[0]["at"] < seen[1]["at"]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_watching_goes_on_while_the_broker_is_away(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("flyback.cli.status.time", SimpleNamespace(sleep=pause))
    monkeypatch.setattr("flyback.status.groups._SECONDS", 0.5)
    said = flyback("status", "--watch", "--bootstrap", f"127.0.0.1:{free_port()}")
    assert said.code == 0
    assert said.err.count("no Kafka answers") == 2
