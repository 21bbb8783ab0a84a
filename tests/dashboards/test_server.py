"""The dashboard over the network, as a browser reads it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from flyback.dashboards import live
from flyback.dashboards.access import Access
from flyback.dashboards.app import build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.live import Live
from flyback.dashboards.server import Server, address, listen
from flyback.errors import ConfigurationError
from tests.dashboards.sample_server import Sample
from tests.waiting import eventually

SECONDS = 60.0


class Running:
    def __init__(self, sample: Sample, folder: Path) -> None:
        self.sample = sample
        self.at = listen("127.0.0.1", 0)
        app = build(Board(sample.store, LakeReader(str(folder / "lake")), lambda: Following("live", 5, 5)))
        self.live: Live = app.state.live
        self.server = Server(app, Access())
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.at])))

    def get(self, path: str) -> HTTPResponse:
        connection = HTTPConnection(*self.at.getsockname()[:2], timeout=SECONDS)
        connection.request("GET", path)
        return connection.getresponse()


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    found = Running(Sample(datetime.now(UTC), minutes=10), folder)
    found.thread.start()
    try:
        eventually(lambda: found.server.started, "it serves", SECONDS)
        yield found
    finally:
        found.server.stop()
        found.thread.join(SECONDS)
        found.sample.store.close()
    assert not found.thread.is_alive()


def events(answer: HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    while line := answer.readline():
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield name, json.loads(text.removeprefix("data: "))


def until_part(stream: Iterator[tuple[str, Any]], wanted: str) -> Any:
    return next(data["data"] for name, data in stream if name == "part" and data["part"] == wanted)


def test_a_change_is_on_the_page_without_asking_again(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        answer = site.get("/api/v1/live?range=1h")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Content-Security-Policy"]
        stream = events(answer)
        before = until_part(stream, "headline")["predictions"]
        site.sample.more(datetime.now(UTC))
        while until_part(stream, "headline")["predictions"] == before:
            site.sample.more(datetime.now(UTC))
        status = next(data for name, data in stream if name == "status")
        assert (status["phase"], status["read"], status["error"]) == ("live", 5, None)
        answer.close()


def test_who_leaves_is_forgotten(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        answers = [site.get("/api/v1/live"), site.get("/api/v1/live?range=now")]
        for answer in answers:
            until_part(events(answer), "table")
        assert site.live.viewers == 2
        for answer in answers:
            answer.close()
        eventually(lambda: site.live.viewers == 0, "both are gone", SECONDS)


def test_who_never_reads_holds_nobody_up(tmp_path: Path) -> None:
    with running(tmp_path) as site, socket.create_connection(site.at.getsockname()[:2]) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_024)
        silent.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: site.live.viewers == 1, "it looks", SECONDS)
        stream = events(site.get("/api/v1/live"))
        before = until_part(stream, "headline")["predictions"]
        while until_part(stream, "headline")["predictions"] < before + 5:
            site.sample.more(datetime.now(UTC))


def test_one_viewer_more_than_there_may_be_is_told_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_VIEWERS", 1)
    with running(tmp_path) as site:
        there = site.get("/api/v1/live")
        until_part(events(there), "table")
        refused = site.get("/api/v1/live")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "1 viewers look already" in json.loads(refused.read())["error"]
        assert site.get("/api/v1/rates").status == 200
        there.close()


def test_it_stops_though_pages_are_open(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        streams = [events(site.get("/api/v1/live")) for _ in range(3)]
        for stream in streams:
            until_part(stream, "table")
    for stream in streams:
        assert all(name for name, _ in stream), "it ends"


def test_an_address_that_is_taken_is_told_with_what_to_set() -> None:
    with listen("127.0.0.1", 0) as taken:
        assert address(taken) == f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match="set another FLYBACK_DASHBOARD_PORT"):
            listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_six_parts_is_one_too() -> None:
    try:
        with listen("::1", 0) as at:
            assert address(at).startswith("http://[::1]:")
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
