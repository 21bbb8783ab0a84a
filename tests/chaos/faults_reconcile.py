"""`flyback reconcile` under load, over a join window so short that much feedback comes too late.

Let be, killed at each of its steps, or run twice at the same time: it must take nothing for missing that the stream
has still to derive, and write nothing twice.

    python -m tests.chaos.faults_reconcile STEP

runs it and kills it at a step.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, Any

from flyback.errors import WorkerFenced
from flyback.local.process import ChildProcess
from tests.chaos.fault import Fault
from tests.chaos.patience import SECONDS

if TYPE_CHECKING:
    from tests.chaos.site import Site

LONGEST_RUN = 8.0  # seconds after which the second of two is started at the latest
LONGEST_COMMIT = 0.02
STEPS = ("after fencing", "during produce", "before commit", "during commit", "after commit")
SIGKILLED = 128 + signal.SIGKILL


def at_rest(site: Site) -> None:
    """Add what came too late, once the load is quiet, and wait until it is in the lake."""
    _finish(_start(site, "at-rest"))
    site.until_landed()


def _let_be(site: Site, _: random.Random) -> None:
    _finish(_start(site, "alone"))


def _kill(site: Site, rng: random.Random) -> None:
    killed = _start(site, "killed", "tests.chaos.faults_reconcile", rng.choice(STEPS))
    # a run that finds nothing gets no further than the comparison
    assert killed.wait(SECONDS) in (SIGKILLED, 0), killed.log_tail()
    _finish(_start(site, "after-kill"))


def _run_twice(site: Site, rng: random.Random) -> None:
    first = _start(site, "first")
    threading.Event().wait(rng.uniform(0, LONGEST_RUN))
    second = _start(site, "second")
    # whichever came to its transaction last has fenced the other, if that was still at it
    ended_well = [_finish(each, WorkerFenced.exit_code) for each in (first, second)]
    assert any(ended_well), f"both were fenced:\n{first.log_tail()}\n{second.log_tail()}"


def _start(site: Site, name: str, *module: str) -> ChildProcess:
    log = site.folder / f"reconcile-{name}.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", *(module or ("flyback", "reconcile", "--json"))]
    process = ChildProcess(f"reconcile {name}", command, log, env=site.environment(), cwd=site.folder)
    process.start()
    return process


def _finish(process: ChildProcess, *allowed: int) -> bool:
    """Whether it ended well: it may have ended with `allowed`; it took nothing for missing that was not too late."""
    code = process.wait(SECONDS)
    if code in allowed:
        return False
    said = process.log.read_text(encoding="utf-8")
    assert code == 0, f"{process.name} ended with {code}:\n{said}"
    found = re.search(r"^\[\n.*^\]$", said, re.MULTILINE | re.DOTALL)
    assert found, said
    for finding in json.loads(found[0]):
        assert finding["other"] == finding["without_raw"] == finding["too_large"] == 0, said
        assert finding["written"] == finding["late"], said
    return True


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(step: str) -> None:
    """Run it in this process, which ends at the step, if it gets there."""
    from flyback.reconcile import reconcile
    from flyback.reconcile.writer import Writer
    from flyback.settings import load

    init, produce, commit = Writer.__init__, Writer._produce, Writer._commit
    left = random.randrange(50)

    def produce_some(self: Any, output: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            self._producer.flush(30)
            _die()
        produce(self, output)

    def commit_a_while(self: Any) -> None:
        threading.Timer(random.uniform(0, LONGEST_COMMIT), _die).start()
        commit(self)
        threading.Event().wait()

    def then_die(step: Callable[..., None]) -> Callable[..., None]:
        def patched(self: Any, *arguments: Any) -> None:
            step(self, *arguments)
            _die()

        return patched

    patches: dict[str, tuple[str, Callable[..., None]]] = {
        "after fencing": ("__init__", then_die(init)),
        "during produce": ("_produce", produce_some),
        "before commit": ("_commit", _die),
        "during commit": ("_commit", commit_a_while),
        "after commit": ("_commit", then_die(commit)),
    }
    setattr(Writer, *patches[step])
    reconcile(load(), lambda *_: None)


def _fault(name: str, inject: Callable[[Site, random.Random], None], times: tuple[int, int]) -> Fault:
    short = {"FLYBACK_JOIN_WINDOW": "2s"}
    return Fault(name, inject, times, environment=short, mixed=False, at_rest=at_rest, reconciled=True)


_IN_TURN = cycle((_let_be, _kill, _run_twice))

FAULTS: tuple[Fault, ...] = (
    _fault("reconcile: let be, killed, twice at a time", lambda site, rng: next(_IN_TURN)(site, rng), (3, 0)),
    _fault("reconcile under load", _let_be, (0, 20)),
    _fault("reconcile killed (SIGKILL) at a step", _kill, (0, 20)),
    _fault("two reconciles at a time", _run_twice, (0, 20)),
)

if __name__ == "__main__":
    _die_at(sys.argv[1])
