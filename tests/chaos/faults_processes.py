"""Workers, sinks and the load's services that are killed, frozen, stopped, started, and changed in number."""

from __future__ import annotations

import random
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.chaos import killpoints
from tests.chaos.fault import Fault
from tests.chaos.killpoints import KillPoint
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site

BEYOND = 2.0
"""Seconds that a process stays frozen after its timeout, beside the second in which the broker looks for old ones."""
REFUSALS = (
    "transaction aborted, its batch will be read again",
    "a process with the same worker id took over, or the transaction timed out",
    "the transaction's outcome cannot be known here",
    "the engine hangs in a call of the Kafka client: start this worker again",
)
"""What a worker says whose commit was refused, or who gave it up before it was made."""


def _kill_worker(site: Site, rng: random.Random) -> None:
    rng.choice([*site.workers.values()]).kill()
    site.until_progress()


def _kill_all_workers(site: Site, _: random.Random) -> None:
    for worker in site.workers.values():
        worker.kill()
    site.until_progress()


def _kill_sink(site: Site, rng: random.Random) -> None:
    rng.choice([*site.sinks.values()]).kill()
    site.until_progress("sink")


def _kill_everything(site: Site, rng: random.Random) -> None:
    for service in rng.sample(site.services, len(site.services)):
        service.kill()
    site.until_progress()
    site.until_progress("sink")


def _kill_producer(site: Site, rng: random.Random) -> None:
    site.load.kill(rng.choice([*site.load.services]))
    site.until_progress()


def _freeze_past_session(site: Site, rng: random.Random) -> None:
    """Others take its partitions over; what it still wants to commit belongs to them by then."""
    frozen = rng.choice([*site.workers.values()])
    others = [worker for worker in site.workers.values() if worker is not frozen]
    # not before_commit: the group has taken the offsets by then, so that whoever takes over waits for the outcome
    _freeze_in_transaction(frozen, rng.choice(("before_produce", "after_produce", "before_offsets")), rng)
    eventually(lambda: _assigned(others) == _all(site), f"others take over from {frozen.name}", SECONDS)
    site.until_progress()
    _thaw(site, frozen)


def _freeze_past_transaction(site: Site, rng: random.Random) -> None:
    """Nobody takes over, the session is longer: the broker alone ends its transaction meanwhile."""
    frozen = rng.choice([*site.workers.values()])
    _freeze_in_transaction(frozen, rng.choice(("before_offsets", "before_commit")), rng)
    time.sleep(site.settings.transaction_timeout.total_seconds() + BEYOND)
    _thaw(site, frozen)


def _freeze_in_transaction(worker: Service, step: str, rng: random.Random) -> None:
    """Let it freeze at a step of a commit."""
    file = worker.folder / f"{worker.name}.freeze"
    _restart(worker, killpoints.__name__, **{killpoints.FILE: str(file), killpoints.SIGNAL: "SIGSTOP"})
    point = KillPoint(step, rng.randint(1, 15))
    before = len(worker.said())
    point.arm(file)
    eventually(lambda: f"killed at {point}" in worker.said()[before:], f"{worker.name} freezes at {point}", SECONDS)
    worker.pause()  # its guard as well


def _thaw(site: Site, worker: Service) -> None:
    """Let it go on, at last as any other. Raises AssertionError where what it wanted to commit is not refused."""
    before = len(worker.said())
    worker.resume()
    eventually(
        lambda: any(refusal in worker.said()[before:] for refusal in REFUSALS),
        f"the stale commit of {worker.name} is refused",
        SECONDS,
    )
    worker.held = False
    _until_all_back(site)
    if killpoints.__name__ in worker.process.command:
        _restart(worker)
        worker.held = False


def _freeze_sink(site: Site, rng: random.Random) -> None:
    """Another one writes meanwhile; the frozen one wakes up with rows and offsets of yesterday."""
    frozen = rng.choice([*site.sinks.values()])
    frozen.pause()
    second = site.add_sink()
    try:
        site.until_progress("sink")
    finally:
        frozen.resume()
    site.until_progress("sink")
    second.held = True
    second.kill()
    site.sinks.pop(second.name)
    site.until_progress("sink")


def _change_number(site: Site, rng: random.Random) -> None:
    """1 -> 4 -> 2 -> 1 workers, under load."""
    for wanted in (1, 4, 2, 1):
        while len(site.workers) > wanted:
            site.remove(rng.choice([*site.workers.values()]))
        while len(site.workers) < wanted:
            site.add_worker()
        _until_all_back(site)


def _roll(site: Site, _: random.Random) -> None:
    """Each worker is stopped by SIGTERM and started again under its id, one after another."""
    for worker in site.workers.values():
        site.until_ready(worker)
        _restart(worker)
        worker.held = False
        site.until_ready(worker)
        site.until_progress()


def _restart(worker: Service, module: str = "flyback", **environment: str) -> None:
    """By SIGTERM, under its id. Whoever calls this lets the supervisor have it again."""
    worker.held = True
    worker.stop()
    worker.start(module, **environment)


def _assigned(workers: Collection[Service]) -> set[int]:
    return {number for worker in workers for number in worker.health().get("assigned", ())}


def _all(site: Site) -> set[int]:
    return set(range(site.settings.partitions))


def _until_all_back(site: Site) -> None:
    """Every worker is well, every partition has one, and it gets on."""
    for worker in site.workers.values():
        site.until_ready(worker)
    eventually(lambda: _assigned(site.workers.values()) == _all(site), "all partitions are assigned", SECONDS)
    site.until_progress()


FAULTS: tuple[Fault, ...] = (
    Fault("the only worker killed (SIGKILL), any moment", _kill_worker, (3, 20), workers=1),
    Fault("one of two workers killed (SIGKILL), any moment", _kill_worker, (3, 20)),
    Fault("both workers killed (SIGKILL) at once", _kill_all_workers, (2, 20)),
    Fault("the only sink killed (SIGKILL), any moment", _kill_sink, (3, 20)),
    Fault("one of two sinks killed (SIGKILL), any moment", _kill_sink, (2, 20), sinks=2),
    Fault("all workers and sinks killed (SIGKILL)", _kill_everything, (1, 20)),
    Fault("service with the SDK killed (SIGKILL)", _kill_producer, (3, 20)),
    Fault("worker frozen past the session timeout", _freeze_past_session, (1, 20)),
    Fault(
        "worker frozen past the transaction timeout",
        _freeze_past_transaction,
        (1, 20),
        environment={"FLYBACK_SESSION_TIMEOUT": "30s", "FLYBACK_TRANSACTION_TIMEOUT": "3s"},
    ),
    Fault("sink frozen while another one writes", _freeze_sink, (1, 20)),
    Fault("workers 1 -> 4 -> 2 -> 1", _change_number, (1, 20), workers=1, mixed=False),
    Fault("workers restarted in order (SIGTERM), rolling", _roll, (1, 20)),
)
