"""Rounds: a site and a load, faults one after another, rest, the verdict; one row for each."""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.disks import CannotMount
from tests.chaos.fault import Fault
from tests.chaos.places import PLACES, SHARED, Place
from tests.chaos.report import Row
from tests.chaos.site import INTERRUPTED, Site
from tests.chaos.verdict import judge

MIXED = "all of them, mixed"
MIXED_TIMES = 12
"""Faults of the mixed round in `make chaos`, which has minutes for everything."""
SOAK_FASTER = 5
"""How many times as fast the load of the long mixed round is, which has many events to send."""
PAUSE_SECONDS = 1.0
"""Between two faults, at most."""

Say = Callable[[str], object]


@dataclass(frozen=True)
class Round:
    """What is done to one site. `times`: how many faults; `events` and `kills` have to be reached as well."""

    name: str
    faults: tuple[Fault, ...]
    times: int
    events: int = 0
    kills: int = 0
    rate: float = 200.0

    @property
    def first(self) -> Fault:
        """The one that says what the site has to be like."""
        return self.faults[0]

    def schedule(self, rng: random.Random) -> Iterator[Fault]:
        """Faults without end: every one once, in a random order, then again."""
        while True:
            yield from rng.sample(self.faults, len(self.faults))


def all_faults() -> list[Fault]:
    """Of all files `faults_*.py`, by file."""
    files = sorted(Path(__file__).parent.glob("faults_*.py"))
    modules = [importlib.import_module(f"{__package__}.{file.stem}") for file in files]
    faults: list[Fault] = [fault for module in modules for fault in module.FAULTS]
    names = [fault.name for fault in faults]
    assert len(names) == len(set(names)), "two faults have the same name"
    return faults


def plan(
    faults: Sequence[Fault], soak: bool = False, events: int = 10_000, kills: int = 0, rate: float = 200.0
) -> list[Round]:
    """A round for each fault, and the mixed one; those first that take longest."""
    each = [Round(f.name, (f,), f.times[soak], rate=rate) for f in faults if f.times[soak]]
    mixable = tuple(f for f in faults if f.times[soak] and _is_mixable(f))
    times = 2 * len(mixable) if soak else min(len(mixable), MIXED_TIMES)
    mixed = [Round(MIXED, mixable, times, events, kills, rate * SOAK_FASTER if soak else rate)] if mixable else []
    return [*mixed, *each]


def _is_mixable(fault: Fault) -> bool:
    return fault.mixed and fault.kind == "plain" and not fault.environment and fault.at_rest is None


def run(
    rounds: Sequence[Round], seed: int, folder: Path, jobs: int, say: Say, finished: Callable[[Row], object] = id
) -> list[Row]:
    """Rows in the order of the rounds, so many rounds at a time; each is told to `finished` when it is there."""

    def play(one: Round) -> Row:
        row = _run(one, seed, folder, places, say)
        finished(row)
        return row

    with ExitStack() as stack:
        places = _SharedPlaces(folder, stack)
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(play, rounds))


class _SharedPlaces:
    """Made when first asked for, ended with the run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._lock = threading.Lock()
        self._made: dict[str, Place] = {}

    def get(self, kind: str, folder: Path, own: ExitStack) -> Place:
        if kind not in SHARED:
            return own.enter_context(PLACES[kind](folder))
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._stack.enter_context(PLACES[kind](self._folder / kind))
            return self._made[kind]


@dataclass
class _Played:
    """A round under way."""

    row: Row
    say: Say
    doing: str = "starting"
    site: Site | None = None
    started: float = field(default_factory=time.monotonic)


def _run(one: Round, seed: int, folder: Path, places: _SharedPlaces, say: Say) -> Row:
    own = folder / re.sub(r"\W+", "-", one.name)
    played = _Played(Row(one.name), say)
    row = played.row
    say(f"{one.name}: begins")
    with ExitStack() as stack:
        try:
            assert not INTERRUPTED.is_set(), "interrupted"
            place = places.get(one.first.kind, own / "place", stack)
            _play(one, seed, place, own / "site", played, stack)
        except CannotMount as refusal:
            if os.environ.get("CI", "").lower() == "true":  # a skipped round must not look like a passed one
                row.problem = str(refusal)
            row.skipped = str(refusal)
        except Exception as error:  # one round's end is not the others'
            row.problem = f"{played.doing}: {type(error).__name__}: {error}"
        finally:
            if (site := played.site) is not None:
                row.join_stall, row.lake_stall = site.meter.join_stall, site.meter.lake_stall
                row.kills = site.kills()
                if row.failed:
                    row.logs = site.log_tails()
    row.seconds = time.monotonic() - played.started
    if row.failed:
        row.folder = own
    else:
        shutil.rmtree(own, ignore_errors=True)
    say(f"{one.name}: {row.outcome} after {row.times} times, {row.seconds:.0f} s")
    return row


def _play(one: Round, seed: int, place: Place, folder: Path, played: _Played, stack: ExitStack) -> None:
    row, fault = played.row, one.first
    rng = random.Random(f"{seed}/{one.name}")
    load_seed = zlib.crc32(f"{seed}/{one.name}/load".encode())
    site = played.site = stack.enter_context(Site(place, folder, load_seed, one.rate, fault.environment))
    site.start(max(f.workers for f in one.faults), fault.sinks)
    site.meter.start()
    site.until_progress()
    site.until_progress("sink")
    for next_fault in one.schedule(rng):
        time.sleep(rng.uniform(0, PAUSE_SECONDS))  # any moment
        played.doing = f"{row.times + 1}: {next_fault.name}"
        played.say(f"{one.name}: {played.doing}")
        next_fault.inject(site, rng)
        site.check()
        row.times += 1
        if row.times >= one.times and site.kills() >= one.kills and site.load.sent() >= one.events:
            break
    played.doing = "coming to rest"
    site.load.stop()
    site.until_landed()
    site.meter.stop()
    if fault.at_rest is not None:
        fault.at_rest(site)
    played.doing = "judging"
    findings = judge(site.settings, fault.reconciled)
    missing = site.load.missing(findings.seen)
    row.events = findings.raw + findings.letters.total() - findings.letters["conflict"]
    row.lost = findings.lost.total() + len(missing)
    row.double, row.wrong = findings.double.total(), findings.wrong.total()
    row.named = findings.named + [f"acknowledged, but not in the raw topics: {name}" for name in missing[:5]]
