"""Live pages: what many viewers look at is computed and written out once a tick, and sent to each of them.

No viewer has a queue. Each remembers which state of every part it was sent, and is sent the newest of those that
changed when it is ready for more: who reads slowly misses states, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from flyback import metrics
from flyback.dashboards.view import View
from flyback.errors import FlybackError
from flyback.logs import get_logger

log = get_logger(__name__)

TICK = 1.0
"""Seconds between two updates."""
SHARE = 0.5
"""Of the time, that computing may take at most: updates come less often where it would be more."""
MOST_VIEWS = 50
MOST_VIEWERS = 800  # many systems allow a process 1,024 open files
RETRY_SECONDS = 5
_STATUS = "status"

Compute = Callable[[View, datetime], Mapping[str, bytes]]
"""The parts of a view by name, as JSON; those that are not known yet are left out. Called in one thread."""


class TooMany(FlybackError):
    """There are so many viewers, or so many different views, that one more is refused."""


class State(NamedTuple):
    """A part as it is sent, and the number of the change that made it so."""

    change: int
    frame: bytes


@dataclass
class _Watched:
    viewers: int = 0
    parts: dict[str, State] = field(default_factory=dict)


class Live:
    """Everybody who looks. To be used from one event loop; `run` must be running for anybody to be sent anything."""

    def __init__(self, compute: Compute, status: Callable[[datetime], bytes]) -> None:
        """`status`: what is sent each second whatever changes, as JSON; quick."""
        self._compute = compute
        self._status = status
        self._watched: dict[View, _Watched] = {}
        self._state = State(0, b"")
        self._change = 0
        self._news = asyncio.Event()
        self._joined = asyncio.Event()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "views")

    @property
    def viewers(self) -> int:
        return sum(watched.viewers for watched in self._watched.values())

    def join(self, view: View) -> Viewer:
        """Begin to look; `leave` must follow. Raises TooMany."""
        if self.viewers >= MOST_VIEWERS:
            raise TooMany(f"{MOST_VIEWERS} viewers look already: try again later, or ask /api/v1/view now and then")
        if view not in self._watched and len(self._watched) >= MOST_VIEWS:
            raise TooMany(f"{MOST_VIEWS} different views are looked at already: try again later, or take one of those")
        watched = self._watched.setdefault(view, _Watched())
        watched.viewers += 1
        self._joined.set()
        self._count()
        return Viewer(self, view)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._tell()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Compute and say how it stands, until cancelled."""
        await asyncio.gather(self._say_status(), self._update())

    async def _say_status(self) -> None:
        while True:
            frame = _frame(_STATUS, self._status(datetime.now(UTC)))
            self._change += 1
            self._state = State(self._change, frame)
            self._tell()
            await asyncio.sleep(TICK)

    async def _update(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = time.monotonic()
            self._joined.clear()
            for view in list(self._watched):
                try:
                    parts = await loop.run_in_executor(self._thread, self._compute, view, datetime.now(UTC))
                except Exception as error:
                    log.error("a view was not computed", reason=f"{type(error).__name__}: {error}")
                else:
                    self._put(view, parts)
            took = time.monotonic() - began
            metrics.DASHBOARD_TICK_SECONDS.observe(took)
            await asyncio.sleep(took / SHARE - took)
            if (left := TICK - took / SHARE) > 0:
                await self._pause(left)

    async def _pause(self, seconds: float) -> None:
        """Shorter where a view has nothing to show yet."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._joined.wait(), left)
            except TimeoutError:
                return
            self._joined.clear()
            if any(not watched.parts for watched in self._watched.values()):
                return

    def _put(self, view: View, parts: Mapping[str, bytes]) -> None:
        watched = self._watched.get(view)
        if watched is None:  # its last viewer left meanwhile
            return
        changed = False
        for name, data in parts.items():
            frame = _frame("part", b'{"part":"%s","data":%s}' % (name.encode(), data))
            if name not in watched.parts or watched.parts[name].frame != frame:
                self._change += 1
                watched.parts[name] = State(self._change, frame)
                changed = True
        if changed:
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _leave(self, view: View) -> None:
        watched = self._watched[view]
        watched.viewers -= 1
        if not watched.viewers:
            del self._watched[view]
        self._count()

    def _count(self) -> None:
        metrics.DASHBOARD_VIEWERS.set(self.viewers)
        metrics.DASHBOARD_VIEWS.set(len(self._watched))


class Viewer:
    """One who looks at a view."""

    def __init__(self, live: Live, view: View) -> None:
        self._live = live
        self._view = view
        self._left = False

    async def frames(self) -> AsyncIterator[bytes]:
        """Server-sent events, as fast as they are taken, until the server stops."""
        seen = 0
        live, watched = self._live, self._live._watched[self._view]
        while not live._closed:
            news = live._news
            newer = [state for state in (*watched.parts.values(), live._state) if state.change > seen]
            seen = live._change
            if newer:
                yield b"".join(state.frame for state in newer)
            else:
                await news.wait()

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._live._leave(self._view)


def _frame(event: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)
