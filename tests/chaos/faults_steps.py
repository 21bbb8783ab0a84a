"""kill -9 at each named step of the engine and of the sink (`killpoints.py`), with one instance and with several.

In `make soak` each step has a row of its own; in `make chaos` one row goes through all of them.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flyback.errors import WorkerFenced
from tests.chaos import killpoints
from tests.chaos.fault import Fault
from tests.chaos.killpoints import MAINTENANCE_STEPS, RESTORE_STEPS, SINK_STEPS, WORKER_STEPS, KillPoint
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site

ROOT = Path(__file__).parents[2]
SIGKILLED = 128 + 9

PASSINGS = 15
"""A kill is at one of so many first passings of a step, by lot; for these steps at one of fewer or more:"""
PASSINGS_OF = {"during_produce": 400, **dict.fromkeys(RESTORE_STEPS, 1), **dict.fromkeys(MAINTENANCE_STEPS, 3)}
LONGEST_MS = {
    "during_commit": 20.0,
    "during_lake_commit": 50.0,
    "during_compaction": 100.0,
    "during_vacuum": 10.0,
    "during_log_cleanup": 10.0,
}
"""For steps that take a while, how long after its beginning to kill at most, by lot."""


def kill_file(service: Service) -> Path:
    """Where a process of this service looks for its kill point."""
    return service.folder / f"{service.name}.kill"


def start_watched(service: Service) -> None:
    """Start it so that it can be killed at a step."""
    service.start(module=killpoints.__name__, **{killpoints.FILE: str(kill_file(service)), "PYTHONPATH": str(ROOT)})


def kill_working(point: KillPoint, services: Sequence[Service]) -> None:
    """Let one of these services kill itself there: the one that gets there first."""
    for service in services:
        service.held = True
        if killpoints.__name__ not in service.process.command:
            service.kill()
        _arm(service, point)
    killed = until_killed(services, point)
    for service in services:
        kill_file(service).unlink(missing_ok=True)
        if service is killed:
            start_watched(service)  # lives until the next file: so the next kill needs no restart before it
        service.held = False


def kill_restoring(point: KillPoint, service: Service) -> None:
    """kill -9, the state deleted, and killed once more at a step of the restoring."""
    service.held = True
    service.kill()
    for folder in service.state_dir.glob("partition-*"):
        shutil.rmtree(folder)
    _arm(service, point)
    until_killed([service], point)
    service.held = False


def until_killed(services: Sequence[Service], point: KillPoint) -> Service:
    """The first that kills itself there. Raises AssertionError where one ends otherwise, or none passes that step."""
    killed: list[Service] = []

    def any_killed() -> bool:
        for service in services:
            if service.exit_code == SIGKILLED and f"killed at {point}\n" in service.process.log_tail() + "\n":
                killed.append(service)
            elif not service.running:
                code = service.exit_code
                # another instance was faster, or an earlier kill point is passed only now
                assert code in (WorkerFenced.exit_code, SIGKILLED), (
                    f"{service.name} ended with {code} before {point}:\n{service.process.log_tail()}"
                )
                _arm(service, point)
        return bool(killed)

    eventually(any_killed, f"{' or '.join(service.name for service in services)} passes {point}", SECONDS)
    return killed[0]


def kill_at(step: str, site: Site, rng: random.Random) -> None:
    """Kill one service of the site at this step, at a passing and after a delay by lot."""
    point = _point(step, rng)
    if step in RESTORE_STEPS:
        kill_restoring(point, rng.choice(list(site.workers.values())))
    elif step in WORKER_STEPS:
        kill_working(point, [rng.choice(list(site.workers.values()))])
    else:
        kill_working(point, list(site.sinks.values()))  # of several only one gets anywhere
    site.until_progress("worker" if step in WORKER_STEPS + RESTORE_STEPS else "sink")


def _arm(service: Service, point: KillPoint) -> None:
    point.arm(kill_file(service))
    start_watched(service)


def _point(step: str, rng: random.Random) -> KillPoint:
    passing = rng.randint(1, PASSINGS_OF.get(step, PASSINGS))
    return KillPoint(step, passing, round(rng.uniform(0, LONGEST_MS.get(step, 0)), 2))


def _at(step: str) -> Callable[[Site, random.Random], None]:
    def inject(site: Site, rng: random.Random) -> None:
        kill_at(step, site, rng)

    return inject


def _in_turn(steps: Sequence[str]) -> Callable[[Site, random.Random], None]:
    turns: WeakKeyDictionary[Site, Iterator[str]] = WeakKeyDictionary()

    def inject(site: Site, rng: random.Random) -> None:
        kill_at(next(turns.setdefault(site, cycle(steps))), site, rng)

    return inject


def _row(step: str) -> Fault:
    who, sinks = ("worker", 1) if step in WORKER_STEPS + RESTORE_STEPS else ("sink", 2)
    return Fault(f"{who} killed: {step.replace('_', ' ')}", _at(step), (0, 20), sinks=sinks, mixed=False)


_WORKER = _in_turn(WORKER_STEPS + RESTORE_STEPS)
_SINK = _in_turn(SINK_STEPS)

FAULTS: tuple[Fault, ...] = (
    Fault("one of two workers killed at each step in turn", _WORKER, (11, 0)),
    Fault("the only worker killed at each step in turn", _WORKER, (0, 33), workers=1, mixed=False),
    Fault("one of two sinks killed at each step in turn", _SINK, (5, 0), sinks=2, mixed=False),
    Fault("the only sink killed at each step in turn", _SINK, (0, 15)),
    Fault(
        "sink killed while it compacts and vacuums",
        _in_turn(MAINTENANCE_STEPS),
        (4, 40),
        environment={"FLYBACK_MAINTENANCE_INTERVAL": "1s"},
    ),
    *map(_row, (*WORKER_STEPS, *RESTORE_STEPS, *SINK_STEPS)),
)
