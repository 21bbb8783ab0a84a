"""`flyback dashboard`: as a process that is started, looked at and stopped."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from flyback.cli.dashboard import health_part
from flyback.local.process import free_port
from flyback.settings import Settings
from flyback.status import Joined, Landed, Status
from flyback.status.groups import Group
from flyback.status.lag import Lag
from tests.cli.conftest import Flyback

Started = Callable[..., "subprocess.Popen[str]"]
NOBODY = "127.0.0.1:1"


def opened(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("open http://"), line
    return line.removeprefix("open ").strip()


def get(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(f"{address}{path}", headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        return refused.code, refused.read()


@pytest.fixture
def nowhere(started: Started) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A dashboard whose Kafka and lake are not there."""
    process = started("dashboard", "--port", "0", "--bootstrap", NOBODY, FLYBACK_DASHBOARD_TOKEN="swordfish")
    yield process, opened(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_waits_for_what_is_not_there_and_ends_well(
    nowhere: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, address = nowhere
    assert get(address, "/healthz") == (200, b'{"ok":true}')
    assert get(address, "/api/v1/rates")[0] == 401
    status, said = get(address, "/api/v1/rates", Authorization="Bearer swordfish")
    assert (status, json.loads(said)["rates"]) == (200, [])
    with urlopen(Request(f"{address}/api/v1/live", headers={"Authorization": "Bearer swordfish"}), timeout=60) as live:
        assert live.readline() == b"event: status\n"
        process.send_signal(number)
        live.read()
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert "swordfish" not in log


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached by others: set FLYBACK_DASHBOARD_TOKEN"),
        (["--host", "no such host", "--insecure"], "cannot serve the dashboard on no such host"),
        (["--host", "203.0.113.1", "--insecure"], "set another FLYBACK_DASHBOARD_PORT"),
    ],
)
def test_where_it_may_not_listen_it_does_not_start(flyback: Flyback, arguments: list[str], complaint: str) -> None:
    said = flyback("dashboard", "--bootstrap", NOBODY, "--port", str(free_port()), *arguments)
    assert said.code == 2
    assert complaint in said.err


def test_health_is_what_status_says() -> None:
    raw, example = Lag("raw", 0, 5, 9, 4, True, 2.5), Lag("examples", 0, 5, 6, 1, True, 0.5)
    group = Group("streams", "cluster", "stable")
    status = Status(
        "behind",
        0.0,
        group,
        [
            Joined(0, "w", "h", [raw, raw], True, last_commit=10.0),
            Joined(1, "w", "h", [], False, 3, 7, last_commit=20.0),
        ],
        [Landed("lake", "its tables", [example])],
        group,
        [],
        [],
        ["a problem"],
        ["unknown"],
    )
    assert health_part(status) == {
        "verdict": "behind",
        "problems": ["a problem"],
        "unknown": ["unknown"],
        "lags": [
            {"process": "worker", "topic": "raw", "events": 8, "seconds": 2.5},
            {"process": "sink", "topic": "examples", "events": 1, "seconds": 0.5},
        ],
        "last_commit": {"worker": "1970-01-01T00:00:20+00:00", "sink": None},
        "restoring": [{"partition": 1, "restored": 3, "to_restore": 7}],
    }


def test_it_serves_what_is_in_kafka(started: Started, own_topics: Settings) -> None:
    process = started("dashboard", "--port", "0")
    address = opened(process)
    with urlopen(f"{address}/api/v1/live", timeout=60) as live:
        while b'"phase":"live"' not in live.readline():
            pass
    said = json.loads(get(address, "/api/v1/health")[1])
    assert said["verdict"] == "not well", "there is no worker"
    assert said["problems"]
