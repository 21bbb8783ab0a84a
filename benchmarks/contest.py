"""Whole processes against each other: in turn, A B A B, measured by the kernel, and each one's result checked.

A benchmark gives contenders of one or more sizes; from two sizes on the table also has what one more event costs,
without the start: `(events big - small) / (CPU seconds big - small)`. Every benchmark is called in the same way:

    python -m benchmarks.NAME [--events N] [--runs N] [--bootstrap ADDRESS] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from benchmarks import machine
from flyback.cli import output
from flyback.errors import FlybackError
from flyback.local.kafka import KafkaBroker

METER = Path(__file__).with_name("meter.py")
ROOT = Path(__file__).parents[1]
PATIENCE = 600.0

T = TypeVar("T")


class Void(FlybackError):
    """A contender failed or its result is wrong: nothing that was measured with it counts."""


@dataclass(frozen=True)
class Contender:
    """One whole process of one size. Each of its runs has a new, empty folder.

    `prepare(folder)` gives the command, `check(folder)` looks at the result afterwards, raises Void where it is wrong,
    and gives what else was found; neither is measured.
    """

    name: str
    size: int
    events: int
    prepare: Callable[[Path], Sequence[str | os.PathLike[str]]]
    check: Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """What one run came to; CPU seconds are those of its whole process tree, memory its largest process's peak."""

    benchmark: str
    contender: str
    size: int
    run: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    events: int
    detail: dict[str, Any] = field(default_factory=dict)


class Figures(NamedTuple):
    """What the kernel counted for one process and its descendants."""

    seconds: float
    cpu_seconds: float
    rss_mb: float


@dataclass(frozen=True)
class Ground:
    """Where a contest takes place. `broker` is the process id of a broker of our own, whose CPU is counted too."""

    bootstrap: str
    folder: Path
    broker: int | None = None


def hold(benchmark: str, contenders: Sequence[Contender], runs: int, ground: Ground) -> list[Run]:
    """Run all of them in turn, so many times. Raises Void."""
    results = []
    for number in range(runs):
        for place, contender in enumerate(contenders):
            folder = ground.folder / f"{benchmark}-{contender.size}-{place}-{number}"
            folder.mkdir(parents=True)
            command = [os.fspath(part) for part in contender.prepare(folder)]
            before = cpu_seconds_of(ground.broker)
            figures = measured(contender.name, command, folder)
            broker = {"broker_cpu_seconds": cpu_seconds_of(ground.broker) - before} if ground.broker else {}
            detail = {**broker, **contender.check(folder)}
            who = (benchmark, contender.name, contender.size, number)
            run = Run(*who, *figures, contender.events, detail)
            results.append(run)
            shutil.rmtree(folder, ignore_errors=True)
            output.note(f"{run.contender} {run.events:,}: {run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU-seconds")
    return results


def measured(name: str, command: Sequence[str], folder: Path, patience: float = PATIENCE) -> Figures:
    """Run one command in the repository's root, its output in `folder`/log. Raises Void where it fails."""
    log, figures = folder / "log", folder / "figures.json"
    meter = [sys.executable, "-I", "-S", os.fspath(METER), os.fspath(figures), *command]
    with log.open("wb") as said:
        process = subprocess.Popen(
            meter, stdin=subprocess.PIPE, stdout=said, stderr=said, cwd=ROOT, start_new_session=True
        )
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        how = f"ran longer than {patience:g} s" if code is None else f"ended with exit code {code}"
        raise Void(f"{name} {how}; the end of its output:\n{tail}")
    return Figures(**json.loads(figures.read_text(encoding="utf-8")))


def cpu_seconds_of(pid: int | None) -> float:
    """What a running process and its children have used so far (Linux; 0 elsewhere)."""
    total = 0.0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(cpu_seconds_of, map(int, (task / "children").read_text(encoding="ascii").split())))
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return total
    return total + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def marginal(runs: Iterable[Run]) -> float | None:
    """Events per CPU-second of one contender without its start, from its smallest and its largest size."""
    by_size = _by(runs, lambda run: run.size)
    small, big = by_size[min(by_size)], by_size[max(by_size)]
    cpu = statistics.median(r.cpu_seconds for r in big) - statistics.median(r.cpu_seconds for r in small)
    return (big[0].events - small[0].events) / cpu if cpu > 0 else None


def markdown(runs: Iterable[Run], details: Sequence[str] = ()) -> str:
    """Medians by contender and size; also of these numbers among the details, where runs have them."""
    columns = ("contender", "events", "seconds", "events/s", "per CPU-second", "without start", "peak MB", *details)
    rows = []
    for name, of_one in _by(runs, lambda run: run.contender).items():
        sizes = _by(of_one, lambda run: run.size)
        for size, found in sizes.items():
            numbers = [
                found[0].events,
                statistics.median(run.seconds for run in found),
                statistics.median(run.events / run.seconds for run in found),
                statistics.median(run.events / run.cpu_seconds for run in found),
                marginal(of_one) if size == max(sizes) else None,
                statistics.median(run.rss_mb for run in found),
                *(_median_detail(found, each) for each in details),
            ]
            rows.append((name, *map(_shown, numbers)))
    return table(columns, rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown: a text, then numbers."""
    lines = [columns, ("-", *["-:"] * (len(columns) - 1)), *rows]
    return "".join(f"|{'|'.join(line)}|\n" for line in lines)


def report(name: str, runs: Sequence[Any], shown: str, as_json: bool) -> None:
    """Print what was measured, and on which machine: a table, or in JSON every run as well."""
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    if as_json:
        found = {"machine": machine.description(), "command": command, "table": shown}
        output.print_json({**found, "runs": list(map(asdict, runs))})
    else:
        output.print_line(f"{machine.description()}\n{command}\n\n{shown}")


def command_line(
    name: str,
    doc: str | None,
    events: int,
    measure: Callable[[Ground, argparse.Namespace], Iterable[Run]],
    details: Sequence[str] = (),
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """A benchmark's program: its options (`more` adds to them), a broker, the report. Gives the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=events, help="events of the largest size (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="how often each contender runs (default: %(default)s)")
    parser.add_argument("--bootstrap", help="a Kafka that is running; else one is started")
    parser.add_argument("--json", action="store_true", help="every run as JSON, not a table of medians")
    more(parser)
    given = parser.parse_args()
    try:
        with ground(name, given.bootstrap) as place:
            runs = list(measure(place, given))
    except FlybackError as error:
        output.complain(str(error))
        return error.exit_code
    report(name, runs, markdown(runs, details), given.json)
    return 0


@contextmanager
def ground(name: str, bootstrap: str | None = None) -> Iterator[Ground]:
    """A temporary folder and a broker for a contest: the given one, else one of our own."""
    with tempfile.TemporaryDirectory(prefix=f"flyback-{name}-", ignore_cleanup_errors=True) as folder:
        if bootstrap:
            yield Ground(bootstrap, Path(folder))
            return
        with KafkaBroker(Path(folder) / "kafka") as broker:
            yield Ground(broker.bootstrap, Path(folder), broker.pid)


def _by(runs: Iterable[Run], what: Callable[[Run], T]) -> dict[T, list[Run]]:
    found: dict[T, list[Run]] = {}
    for run in runs:
        found.setdefault(what(run), []).append(run)
    return found


def _median_detail(runs: Iterable[Run], name: str) -> float | None:
    found = [run.detail[name] for run in runs if name in run.detail]
    return statistics.median(found) if found else None


def _shown(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
