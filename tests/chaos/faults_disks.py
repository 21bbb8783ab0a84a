"""The state folder's disk full; the lake's disk full, or read-only. Each then is as it was."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from flyback.errors import BrokenState
from tests.chaos.disks import SmallDisk
from tests.chaos.fault import Fault, in_turn
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site


def fill_states(site: Site, rng: random.Random) -> None:
    """Every worker ends with its code and says why, at each start again, and goes on once there is room."""
    disk = _disk(site, "states")
    workers = list(site.workers.values())
    said = [len(worker.said()) for worker in workers]
    disk.fill()
    disk.leave(rng.choice((0, 4_096, 65_536)))
    for worker, before in zip(workers, said, strict=True):
        _until_ended_twice(worker, before)
    disk.clear()
    site.until_progress("worker")


def fill_lake(site: Site, rng: random.Random) -> None:
    """The sink waits and says why, and goes on once there is room."""
    disk = _disk(site, "lake")
    waits = {name: lake_waits(sink) for name, sink in site.sinks.items()}
    disk.fill()
    disk.leave(rng.choice((0, 4_096, 16_384, 65_536)))
    for name, sink in site.sinks.items():
        _until_waiting(sink, waits[name], "No space left on device")
    disk.clear()
    site.until_progress("sink")


def make_lake_read_only(site: Site, rng: random.Random) -> None:
    """The sink waits and says why, and goes on once the lake can be written."""
    disk = _disk(site, "lake")
    waits = {name: lake_waits(sink) for name, sink in site.sinks.items()}
    disk.refuse_writes()
    try:
        for name, sink in site.sinks.items():
            _until_waiting(sink, waits[name], "Read-only file system")
    finally:
        disk.allow_writes()
    site.until_progress("sink")


def start_on_read_only_lake(site: Site, rng: random.Random) -> None:
    """A sink that is killed meanwhile starts on the read-only lake, waits, and goes on."""
    disk = _disk(site, "lake")
    disk.refuse_writes()
    try:
        for sink in site.sinks.values():
            sink.kill()
            _until_waiting(sink, 0.0, "Read-only file system")
    finally:
        disk.allow_writes()
    site.until_progress("sink")


def lake_waits(sink: Service) -> float:
    """`flyback_waits_total{cause="lake"}` of the present process; 0 where nobody answers."""
    found = re.search(r'^flyback_waits_total\{cause="lake"\} (\S+)', sink.get("metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _until_ended_twice(worker: Service, before: int) -> None:
    """Once by the full disk, and once because it was started on one."""
    text = "No space left on device.*make room"
    eventually(lambda: len(re.findall(text, worker.said()[before:])) >= 2, f"{worker.name} ends twice", SECONDS)
    assert worker.exits[BrokenState.exit_code], worker.status()
    assert "Traceback" not in worker.said()[before:], f"{worker.name} ended with a traceback:\n{worker.said()[before:]}"


def _until_waiting(sink: Service, before: float, why: str) -> None:
    eventually(lambda: lake_waits(sink) > before, f"{sink.name} waits for the lake", SECONDS)
    assert sink.health()["waiting_for"] == "lake"
    assert why in sink.said(), f"{sink.name} does not say why it waits:\n{sink.process.log_tail()}"


def _disk(site: Site, name: str) -> SmallDisk:
    disk: SmallDisk = site.place.parts[name]
    return disk


FAULTS: tuple[Fault, ...] = (
    Fault(
        "disk of the states full, of the lake full, of the lake read-only",
        in_turn(fill_states, fill_lake, make_lake_read_only),
        (3, 0),
        "small disks",
    ),
    Fault("disk of the state folders full", fill_states, (0, 20), "small disks"),
    Fault("disk of the lake full", fill_lake, (0, 20), "small disks"),
    Fault("lake read-only, then writable", make_lake_read_only, (0, 20), "small disks"),
    Fault("sink started on a read-only lake", start_on_read_only_lake, (0, 20), "small disks"),
)
