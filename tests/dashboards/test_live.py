"""Many viewers: one computation and one writing for all, and none of them waits for another."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import pytest

from flyback import metrics
from flyback.dashboards import live as module
from flyback.dashboards.live import Live, TooMany
from flyback.dashboards.view import View

SEGMENTS = View()
VERSIONS = View(by=("version",))
SECONDS = 30.0


class Computed:
    """What views come to, and how often they were asked."""

    def __init__(self) -> None:
        self.calls: list[View] = []
        self.parts: dict[str, Any] = {"headline": 1, "table": 1}
        self.breaks = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, view: View, now: datetime) -> Mapping[str, bytes]:
        self.gate.wait(SECONDS)
        self.calls.append(view)
        if self.breaks:
            raise RuntimeError("no such column")
        return {name: json.dumps(value).encode() for name, value in self.parts.items()}


def status(now: datetime) -> bytes:
    return b'{"phase":"live"}'


def played(scenario: Callable[[Live, Computed], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> Computed:
    """Runs it beside a Live whose ticks are short."""
    monkeypatch.setattr(module, "TICK", 0.02)
    computed = Computed()

    async def run() -> None:
        live = Live(computed, status)
        ticking = asyncio.create_task(live.run())
        try:
            await asyncio.wait_for(scenario(live, computed), SECONDS)
        finally:
            computed.gate.set()
            live.close()
            ticking.cancel()

    asyncio.run(run())
    return computed


def parts_in(frame: bytes) -> list[tuple[str, Any]]:
    """Event and data of each event, but for the status."""
    events = [line.split(b"\n") for line in frame.strip().split(b"\n\n")]
    found = [(event.removeprefix(b"event: "), json.loads(data.removeprefix(b"data: "))) for event, data in events]
    return [(data["part"], data["data"]) for event, data in found if event == b"part"]


async def next_parts(frames: AsyncIterator[bytes]) -> list[tuple[str, Any]]:
    async for frame in frames:
        if found := parts_in(frame):
            return found
    raise AssertionError("the stream ended")


def test_a_part_is_sent_when_it_changed_and_the_status_all_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        frames = live.join(SEGMENTS).frames()
        assert await next_parts(frames) == [("headline", 1), ("table", 1)]
        for _ in range(3):
            assert await anext(frames) == b'event: status\ndata: {"phase":"live"}\n\n'
        computed.parts["table"] = 2
        assert await next_parts(frames) == [("table", 2)]

    played(scenario, monkeypatch)


def test_viewers_of_one_view_are_sent_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        computed.gate.clear()
        viewers = [live.join(SEGMENTS) for _ in range(500)] + [live.join(VERSIONS)]
        assert metrics.DASHBOARD_VIEWERS._value.get() == 501
        assert metrics.DASHBOARD_VIEWS._value.get() == 2
        streams = [viewer.frames() for viewer in viewers]
        waiting = [asyncio.create_task(next_parts(frames)) for frames in streams]
        computed.gate.set()
        assert {str(found) for found in await asyncio.gather(*waiting)} == {"[('headline', 1), ('table', 1)]"}
        assert len(computed.calls) < 20, "not one for each viewer"
        for viewer in viewers:
            viewer.leave()
            viewer.leave()
        assert (live.viewers, metrics.DASHBOARD_VIEWS._value.get()) == (0, 0)

    played(scenario, monkeypatch)


def test_who_reads_slowly_misses_states_and_gets_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        slow, fast = live.join(SEGMENTS).frames(), live.join(SEGMENTS).frames()
        await next_parts(slow)
        await next_parts(fast)
        for number in range(2, 6):
            computed.parts["table"] = number
            assert await next_parts(fast) == [("table", number)]
        assert await next_parts(slow) == [("table", 5)]

    played(scenario, monkeypatch)


def test_what_nobody_looks_at_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        viewer = live.join(VERSIONS)
        await next_parts(viewer.frames())
        viewer.leave()
        frames = live.join(SEGMENTS).frames()
        await next_parts(frames)
        computed.calls.clear()
        for number in (2, 3):
            computed.parts["table"] = number
            await next_parts(frames)
        assert set(computed.calls) == {SEGMENTS}

    played(scenario, monkeypatch)


def test_a_view_that_breaks_leaves_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        computed.breaks = True
        frames = live.join(SEGMENTS).frames()
        while len(computed.calls) < 3:
            assert parts_in(await anext(frames)) == []
        computed.breaks = False
        assert await next_parts(frames) == [("headline", 1), ("table", 1)]

    played(scenario, monkeypatch)


def test_more_viewers_or_views_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VIEWS", 1)
    monkeypatch.setattr(module, "MOST_VIEWERS", 2)

    async def scenario(live: Live, computed: Computed) -> None:
        live.join(SEGMENTS)
        with pytest.raises(TooMany, match="1 different views are looked at already"):
            live.join(VERSIONS)
        live.join(SEGMENTS)
        with pytest.raises(TooMany, match="2 viewers look already"):
            live.join(SEGMENTS)

    played(scenario, monkeypatch)


def test_streams_end_when_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(live: Live, computed: Computed) -> None:
        frames = live.join(SEGMENTS).frames()
        await next_parts(frames)
        live.close()
        assert [parts_in(frame) async for frame in frames] in ([], [[]])

    played(scenario, monkeypatch)
