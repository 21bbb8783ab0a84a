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

from tests.chaos import killpoints
from tests.chaos.fault import Fault
from tests.chaos.killpoints import MAINTENANCE_STEPS, RESTORE_STEPS, SINK_STEPS, WORKER_STEPS, KillPoint
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site

SECONDS = 90.0
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
TIDYING = {"FLYBACK_MAINTENANCE_INTERVAL": "1s"}


def kill_file(service: Service) -> Path:
    """Where a process of this service looks for its kill point."""
    return service.folder / f"{service.name}.kill"


def start_watched(service: Service) -> None:
    """Start it so that it can be killed at a step."""
    service.start(module=killpoints.__name__, **{killpoints.FILE: str(kill_file(service)), "PYTHONPATH": str(ROOT)})


def until_killed(service: Service, point: KillPoint) -> None:
    """Return once it has killed itself there. Raises AssertionError where it ended otherwise, or not at all."""
    eventually(lambda: not service.running, f"{service.name} passes {point}", SECONDS)
    tail = service.process.log_tail()
    assert service.exit_code == SIGKILLED, f"{service.name} ended with {service.exit_code} before {point}:\n{tail}"
    assert f"killed at {point}" in tail, f"{service.name} was killed elsewhere than at {point}:\n{tail}"


def kill_working(step: str, services: Sequence[Service], rng: random.Random) -> None:
    """Let each of these services kill itself at the step, at a passing and after a delay by lot."""
    points = [(service, _point(step, rng)) for service in services]
    for service in services:
        service.held = True
        if killpoints.__name__ not in service.process.command:
            if service.running:
                service.stop()
            start_watched(service)
    for service, point in points:
        point.arm(kill_file(service))
    for service, point in points:
        until_killed(service, point)
        start_watched(service)  # lives until the next file: so the next kill needs no restart before it
        service.held = False


def kill_restoring(step: str, service: Service, rng: random.Random) -> None:
    """kill -9, the state deleted, and killed once more at a step of the restoring."""
    point = _point(step, rng)
    service.held = True
    service.kill()
    for folder in service.state_dir.glob("partition-*"):
        shutil.rmtree(folder)
    point.arm(kill_file(service))
    start_watched(service)
    until_killed(service, point)
    service.held = False


def kill_at(step: str, site: Site, rng: random.Random) -> None:
    """Kill one service of the site that passes this step, or (one time in three) all of them."""
    what = "worker" if step in WORKER_STEPS + RESTORE_STEPS else "sink"
    services = list((site.workers if what == "worker" else site.sinks).values())
    if step in RESTORE_STEPS:
        kill_restoring(step, rng.choice(services), rng)
    else:
        kill_working(step, services if rng.random() < 1 / 3 else [rng.choice(services)], rng)
    site.until_progress(what)


def _point(step: str, rng: random.Random) -> KillPoint:
    passing = rng.randint(1, PASSINGS_OF.get(step, PASSINGS))
    return KillPoint(step, passing, round(rng.uniform(0, LONGEST_MS.get(step, 0)), 2))


def _at(step: str) -> Callable[[Site, random.Random], None]:
    def inject(site: Site, rng: random.Random) -> None:
        kill_at(step, site, rng)

    return inject


def _in_turn(steps: Sequence[str]) -> Callable[[Site, random.Random], None]:
    turn: Iterator[str] = cycle(steps)

    def inject(site: Site, rng: random.Random) -> None:
        kill_at(next(turn), site, rng)

    return inject


def _row(step: str) -> Fault:
    who = "worker" if step in WORKER_STEPS + RESTORE_STEPS else "sink"
    environment = TIDYING if step in MAINTENANCE_STEPS else {}
    sinks = 2 if step in SINK_STEPS else 1
    name = f"{who} killed: {step.replace('_', ' ')}"
    return Fault(name, _at(step), (0, 20), sinks=sinks, environment=environment, mixed=step not in MAINTENANCE_STEPS)


_WORKER = WORKER_STEPS + RESTORE_STEPS
_SINK = SINK_STEPS + MAINTENANCE_STEPS

FAULTS: tuple[Fault, ...] = (
    Fault("one of two workers killed at each step in turn", _in_turn(_WORKER), (len(_WORKER), 0), mixed=False),
    Fault("the only worker killed at each step in turn", _in_turn(_WORKER), (0, 2 * len(_WORKER)), workers=1),
    Fault(
        "the only sink killed at each step in turn",
        _in_turn(_SINK),
        (len(_SINK), 2 * len(_SINK)),
        environment=TIDYING,
        mixed=False,
    ),
    *map(_row, _WORKER + _SINK),
)
