"""The worker's process: what starts and stops in which order, signals, the minute's line, the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import mode

from flyback import logs
from flyback.dashboards.endpoint import serve
from flyback.errors import FlybackError
from flyback.settings import Settings
from flyback.streams.garbage import collect_rarely

log = logs.get_logger(__name__)

EXIT_SECONDS = 4.5
REPORT_SECONDS = 60.0
_POLL_SECONDS = 0.2
_LOOKS = 3  # that must find the engine hanging; the first one after the whole process was frozen always does
_COUNTERS = ("events", "derived", "duplicates", "dead_letters")


class RunnableEngine(Protocol):
    """What the process needs of `flyback.streams.engine.Engine`."""

    def run(self) -> None:
        """Block until stopped; returns soon if `stop` came first. Raises what a supervisor has to know."""
        ...

    def stop(self) -> None:
        """Let `run` finish the transaction in hand, close and return. From any thread, also before `run`."""
        ...

    def status(self) -> Mapping[str, Any]:
        """From any thread: `ok`, the present state, and `totals`, what was counted since the start."""
        ...

    def hangs(self) -> bool:
        """From any thread: whether something that the engine called has not returned in all the time it may take."""
        ...


class Beside(Protocol):
    """What runs beside the engine and may come and go without ending it."""

    @property
    def phase(self) -> str:
        """A word for people."""
        ...

    async def run(self) -> None:
        """Until cancelled."""
        ...


def run(settings: Settings, engine: RunnableEngine, beside: Mapping[str, Beside]) -> int:
    """Be the worker until SIGTERM or SIGINT, or until the engine ends; gives the exit code. `beside` is by name.

    For the main thread of a process of its own, with an engine that was not started: it takes over the signals,
    and `EXIT_SECONDS` after it began to stop it ends the process, whatever still hangs. 0 after a signal,
    `FlybackError.exit_code` after an error of ours, 1 after any other. Raises ConfigurationError where the
    endpoint cannot be served.
    """
    collect_rarely()
    return asyncio.run(_Worker(settings, engine, beside).run())


class EngineService(mode.Service):
    """The engine's blocking loop in a thread of its own, as a service of Faust's world.

    `phase` is starting, running, stopped or failed; `error` is what the engine raised; `finished` is set at the
    end, whatever the end was.
    """

    mundane_level = "debug"

    def __init__(self, engine: RunnableEngine) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.finished = asyncio.Event()
        self._engine = engine
        self._running = False

    @property
    def phase(self) -> str:
        if self.finished.is_set():
            return "stopped" if self.error is None else "failed"
        return "running" if self._running and self._engine.status()["ok"] else "starting"

    async def on_start(self) -> None:
        loop = asyncio.get_running_loop()
        # a daemon: a thread that hangs in a client's call must not keep the process
        threading.Thread(target=self._work, args=(loop,), name="engine", daemon=True).start()

    async def on_stop(self) -> None:
        self._engine.stop()
        await self.finished.wait()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        self._running = True
        try:
            self._engine.run()
        except BaseException as error:  # it is the main thread that knows what to do about it
            self.error = error
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self.finished.set)


class _Worker:
    def __init__(self, settings: Settings, engine: RunnableEngine, beside: Mapping[str, Beside]) -> None:
        self._settings = settings
        self._engine = engine
        self._service = EngineService(engine)
        self._beside = beside
        self._hangs = False

    async def run(self) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with serve(self._settings, self._settings.worker_http_port, self._health) as endpoint:
            self._say_what_starts(endpoint.port)
            await self._service.start()
            beside = [asyncio.create_task(each.run()) for each in self._beside.values()]
            beside.append(asyncio.create_task(self._report()))
            await _first(stop.wait(), self._service.finished.wait(), self._until_it_hangs())
            code = self._exit_code()
            _end_process_after(EXIT_SECONDS, code)
            for task in beside:
                task.cancel()
            await asyncio.gather(self._service.stop(), *beside, return_exceptions=True)
            code = code or self._exit_code()
        log.info("worker stopped", exit_code=code)
        return code

    async def _until_it_hangs(self) -> None:
        """librdkafka's heartbeats keep the partitions of a worker that does nothing with them any more."""
        looks = 0
        while looks < _LOOKS:
            await asyncio.sleep(1.0)
            looks = looks + 1 if self._engine.hangs() else 0
        self._hangs = True
        log.error("the engine hangs in a call of the Kafka client: start this worker again")

    def _health(self) -> dict[str, object]:
        """`ok` while the engine joins. What runs beside it is shown but does not count: the join goes on without."""
        phase = self._service.phase
        error = self._service.error
        return {
            **self._engine.status(),
            "ok": phase == "running",
            "engine": phase,
            "error": None if error is None else str(error) or type(error).__name__,
            **self._phases(),
        }

    def _phases(self) -> dict[str, str]:
        return {name: each.phase for name, each in self._beside.items()}

    def _exit_code(self) -> int:
        error = self._service.error
        if error is None:
            return 1 if self._hangs else 0
        if isinstance(error, FlybackError):
            log.error(str(error), error=type(error).__name__)
            return error.exit_code
        log.error("the engine failed", exc_info=error)
        return 1

    def _say_what_starts(self, port: int) -> None:
        settings = self._settings
        registry = urlsplit(settings.registry_url or "")
        log.info(
            "worker starts",
            bootstrap=settings.bootstrap_servers,
            security=settings.security_protocol,
            # an address may carry a password
            registry=registry._replace(netloc=registry.netloc.rpartition("@")[2]).geturl() or "none",
            group=settings.group,
            prefix=settings.topic_prefix,
            state_dir=str(settings.state_dir),
            http=f"{settings.http_host}:{port}",
        )

    async def _report(self) -> None:
        """One line when the engine is there, then one a minute with what the minute brought."""
        while self._service.phase == "starting":
            await asyncio.sleep(_POLL_SECONDS)
        log.info("engine runs", worker_id=self._engine.status().get("worker_id"))
        before: Mapping[str, int] = {}
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            status = self._engine.status()
            totals = status["totals"]
            log.info(
                "last minute",
                **{name: totals.get(name, 0) - before.get(name, 0) for name in _COUNTERS},
                assigned=status.get("assigned"),
                restoring=status.get("restoring"),
                **self._phases(),
            )
            before = totals


def backoff(first: float = 0.5, most: float = 30.0) -> Iterator[float]:
    """Seconds to wait before each next try, without end."""
    while True:
        yield first
        first = min(2 * first, most)


async def _first(*awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _end_process_after(seconds: float, code: int) -> None:
    """From a thread, so that nothing that hangs can hold it up."""

    def end() -> None:
        log.warning("worker ended without waiting any longer", after_seconds=seconds, exit_code=code)
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
