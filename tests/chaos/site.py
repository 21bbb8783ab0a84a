"""Workers, sinks and a load over one place, kept running by a supervisor as systemd would."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from flyback import topics
from flyback.landing import wait_until_landed
from flyback.settings import Settings, load
from tests.chaos.load import Load
from tests.chaos.patience import SECONDS
from tests.chaos.places import Place
from tests.chaos.service import Service
from tests.chaos.stalls import Meter
from tests.waiting import eventually

RESTART_SECONDS = 0.5
RETAINED = timedelta(days=1)
ROOT = str(Path(__file__).parents[2])
INTERRUPTED = threading.Event()
"""Set when somebody wants to end all rounds: every site fails its next check, and so comes to its end in good order."""
REFUSALS = (2, 3, 4)
"""Exit codes after which a supervisor's restart does not help."""

SMALL = {
    "session_timeout": "6s",
    "transaction_timeout": "6s",
    "transaction_interval": "50ms",
    "batch_events": 200,
    "commit_interval": "500ms",
    "max_dead_letters": 1_000_000_000,  # the load's poison is meant
    "partitions": 4,
}


class Site:
    """One lake, one prefix, one consumer group. Services are started by `start`, and all end with `close`."""

    def __init__(
        self, place: Place, folder: Path, seed: int, rate: float, environment: Mapping[str, str] | None = None
    ) -> None:
        """`rate`: events a second of the load. `environment`: of the round's processes, as `Fault.environment`."""
        folder.mkdir(parents=True)
        prefix = f"c{uuid4().hex[:8]}."
        given = dict(environment or {})
        self.place = place
        self.broker: Any = place.broker
        self.folder = folder
        self.settings: Settings = load(
            bootstrap_servers=place.bootstrap,
            topic_prefix=prefix,
            group=prefix,
            **{"lake": str(folder / "lake"), **SMALL, **place.settings, **_fields(given)},
        )
        self.workers: dict[str, Service] = {}
        self.sinks: dict[str, Service] = {}
        self.failures: list[str] = []
        """What must not happen, such as a refusal to start; each fails the round."""
        self._given = {**place.environment, **given}
        self._states = Path(self._given.get("FLYBACK_STATE_DIR", str(folder)))
        self._names = 0
        self._removed: list[Service] = []
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.load = Load(self.settings, folder, self.environment(), seed, rate)
        self.meter = Meter(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, workers: int = 2, sinks: int = 1) -> None:
        """Make the topics, start the load and so many of each, and return once they work."""
        window = max(self.settings.join_window, RETAINED)  # the verdict reads what a short window would let go
        topics.create(self.settings.model_copy(update={"join_window": window}))
        self.load.start()
        started = [self.add_worker() for _ in range(workers)] + [self.add_sink() for _ in range(sinks)]
        self._supervisor.start()
        for service in started:
            self.until_ready(service)

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a process of this site."""
        return {**os.environ, "PYTHONPATH": ROOT, **self.settings.environment(), **self._given, **changes}

    def add_worker(self, **environment: str) -> Service:
        """Start one more worker with a state folder of its own."""
        name = self._name("worker")
        state = {"FLYBACK_STATE_DIR": str(self._states / f"state-{name}")}
        self.workers[name] = Service(name, "worker", self.folder, self.environment(**{**state, **environment}))
        self.workers[name].start()
        return self.workers[name]

    def add_sink(self, **environment: str) -> Service:
        """Start one more sink of the same lake."""
        name = self._name("sink")
        self.sinks[name] = Service(name, "sink", self.folder, self.environment(**environment))
        self.sinks[name].start()
        return self.sinks[name]

    def remove(self, service: Service) -> None:
        """Stop it by SIGTERM and take it out; it has to end with 0."""
        service.held = True
        service.stop()
        self.workers.pop(service.name, None)
        self.sinks.pop(service.name, None)
        self._removed.append(service)

    @property
    def services(self) -> list[Service]:
        return [*self.workers.values(), *self.sinks.values()]

    def until_ready(self, service: Service) -> None:
        """Return once its /healthz says ok."""
        self._eventually(lambda: bool(service.health().get("ok")), f"{service.name} is well", SECONDS)

    def committed(self) -> int:
        """The group's offsets, summed over all partitions of the raw topics."""
        return self.meter.committed()

    def landed(self) -> int:
        """How often anything was committed to the lake."""
        return self.meter.landed()

    def until_progress(self, what: str = "worker") -> None:
        """Return once more is committed by the workers (landed, for "sink") than at the call. The load is running."""
        look: Callable[[], int] = self.landed if what == "sink" else self.committed
        before = look()
        self._eventually(lambda: look() > before, f"the {what} gets on from {before}", SECONDS)

    def until_landed(self, stall_seconds: float = SECONDS) -> None:
        """All that was sent is joined, and what came of it is in the lake."""
        wait_until_landed(self.settings, lambda *_: None, self.check, stall_seconds)

    def check(self) -> None:
        """Raises AssertionError where something happened that must not, or where all is to end."""
        assert not INTERRUPTED.is_set(), "interrupted"
        assert not self.failures, "; ".join(self.failures)

    def kills(self) -> int:
        """How many processes have ended by SIGKILL."""
        return self.load.kills + sum(service.kills for service in (*self.services, *self._removed))

    def log_tails(self) -> dict[str, str]:
        """The end of each process's log, by name."""
        processes = [*(service.process for service in self.services), *self.load.services.values()]
        return {process.name: process.log_tail() for process in processes}

    def close(self) -> None:
        """End all that was started."""
        self._ending.set()
        self.load.close()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for service in self.services:
            service.close()
        self.meter.stop()

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    def _eventually(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        def checked() -> bool:
            self.check()
            return condition()

        eventually(checked, what, seconds)

    def _supervise(self) -> None:
        ended: dict[str, float] = {}
        while not self._ending.wait(0.05):
            for service in self.services:
                if service.running or service.held:
                    ended.pop(service.name, None)
                    continue
                since = ended.setdefault(service.name, time.monotonic())
                if service.exit_code in REFUSALS:
                    text = f"{service.name} ended with {service.exit_code}:\n{service.process.log_tail()}"
                    if text not in self.failures:
                        self.failures.append(text)
                elif time.monotonic() - since >= RESTART_SECONDS:
                    with contextlib.suppress(AssertionError):
                        service.start()


def _fields(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings by field name of those variables that are settings."""
    names = {str(field.validation_alias): name for name, field in Settings.model_fields.items()}
    return {names[key]: value for key, value in environment.items() if key in names}
