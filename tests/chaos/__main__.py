"""`python -m tests.chaos`: what `make chaos` and `make soak` run.

    python -m tests.chaos                                   every fault on its own and all mixed, in some minutes
    python -m tests.chaos --only "worker killed" --seed 7   the rounds whose names have this in them
    python -m tests.chaos --soak --events 1000000 --kills 100 --keep soak.json    hours; run it again to go on

The table goes to stdout, progress to stderr. Exits with 1 where anything was lost, double or wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from flyback.local import process
from tests.chaos import report
from tests.chaos.kept import Kept
from tests.chaos.rounds import all_faults, plan, run
from tests.chaos.site import INTERRUPTED


def main() -> int:
    arguments = _parser().parse_args()
    try:
        kind = "a soak" if arguments.soak else "chaos"
        plan_name = f"{kind} of {arguments.events} events and {arguments.kills} kills at {arguments.rate:g} a second"
        kept = Kept(arguments.keep, arguments.seed, plan_name)
    except ValueError as error:
        sys.exit(f"python -m tests.chaos: {error}")
    seed = kept.seed
    rounds = plan(all_faults(), arguments.soak, arguments.events, arguments.kills, arguments.rate)
    if arguments.only:
        rounds = [one for one in rounds if any(part in one.name for part in arguments.only)]
    if arguments.list or not rounds:
        sys.stdout.write("".join(f"{one.times:4} x {one.name}\n" for one in rounds))
        return 0 if rounds else 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    began = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:5.0f} s  {what}\n")
        sys.stderr.flush()

    left = [one for one in rounds if one.name not in kept.rows]
    say(f"seed {seed}, {len(left)} of {len(rounds)} rounds, {arguments.jobs} at a time")
    folder = Path(tempfile.mkdtemp(prefix="flyback-chaos-"))
    played = {row.fault: row for row in run(left, seed, folder, arguments.jobs, say, kept.add)}
    rows = [(kept.rows | played)[one.name] for one in rounds]
    seconds = time.monotonic() - began
    failed = [row for row in rows if row.failed]
    for row in failed:
        sys.stderr.write("\n" + report.failure(row, seed) + "\n")
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json(rows, seed, seconds), indent=1) + "\n")
    else:
        sys.stdout.write(f"{report.table(rows)}\n\n{report.summary(rows, seed, seconds)}\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    first, *rest = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        "python -m tests.chaos",
        description=first,
        epilog="".join(rest),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--soak", action="store_true", help="every fault as often as in the long run")
    parser.add_argument("--events", type=int, default=5_000, help="of the mixed round, at least")
    parser.add_argument("--kills", type=int, default=0, help="kill -9s of the mixed round, at least")
    parser.add_argument("--seed", type=int, help="of all random choices; by default another one each time")
    parser.add_argument("--only", action="append", metavar="NAME", help="rounds with this in their name; repeatable")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second of each round's load")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="rounds that found nothing; they are not run again")
    parser.add_argument("--list", action="store_true", help="the rounds, and how often each fault is injected")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first time all rounds come to their end in good order, the second time at once."""
    if INTERRUPTED.is_set():
        for child in process.running():
            child.kill()
        os._exit(128 + number)
    INTERRUPTED.set()


if __name__ == "__main__":
    sys.exit(main())
