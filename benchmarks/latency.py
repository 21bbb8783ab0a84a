"""How soon a correction is an example: in Kafka for a reader of committed messages, and as a row in DuckDB.

A real Kafka, a worker with the default settings but for the transaction's length, about 1 KB an event, one in ten a
correction. A latency is the time from when the correction is given to the producer, which like the SDK's gathers for
20 ms, until another process has the example; "after arrival" is counted from when Kafka took the correction. CPU is
that of worker and broker while events come, in percent of one core; idle is the worker's when nothing comes any more.
Every correction must have exactly one example, else the run is void. `--events` are sent at 2,000 events/s; with other
rates it takes as long.

    python -m benchmarks.latency --events 40000 --rate 2000 --transaction 100
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from benchmarks import contest
from benchmarks.contest import Ground, Run, Void, cpu_seconds_of
from benchmarks.latency_process import PATIENCE, Load, Seen
from benchmarks.memory import peak_megabytes
from flyback import endpoints, history, topics
from flyback import settings as configuration
from flyback.bench.measure import at_percent
from flyback.cli import output
from flyback.local.process import ChildProcess, free_port
from flyback.settings import Settings
from flyback.streams.topology import Topology

RATES = (500, 2_000, 10_000)  # events a second
TRANSACTIONS = (25, 50, 100, 250)  # ms
DEFAULT_TRANSACTION = 100
_USUAL = 2_000
_IDLE_SECONDS = 10.0
_SETTLED_SECONDS = 2.0
_DETAILS = (
    "p50_ms", "p99_ms", "max_ms", "p50_after_arrival_ms", "p99_after_arrival_ms", "p50_written_ms",
    "worker_percent", "broker_percent", "idle_percent",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One load, and who watches for the examples: `read` in Kafka, or `look` in DuckDB with a sink running."""

    load: Load
    transaction: int
    watcher: str

    @property
    def name(self) -> str:
        where = {"read": "in Kafka", "look": "in DuckDB"}[self.watcher]
        return f"{where}, {self.load.rate:,} events/s, transactions of {self.transaction} ms"


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """All cases in turn. Each sends for as long as `--events` take at 2,000 events/s."""
    seconds = given.events / _USUAL
    loads = [Load(rate, seconds) for rate in given.rate or RATES]
    cases = [Case(load, length, "read") for load in loads for length in given.transaction or TRANSACTIONS]
    cases += [Case(load, DEFAULT_TRANSACTION, "look") for load in loads if load.rate <= _USUAL]
    return [
        once(ground, case, ground.folder / f"{number}-{place}", number)
        for number in range(given.runs)
        for place, case in enumerate(cases)
    ]


def once(ground: Ground, case: Case, folder: Path, number: int) -> Run:
    """One case on topics of its own. Raises Void."""
    prefix = f"bench-{uuid4().hex[:8]}."
    settings = configuration.load(
        bootstrap_servers=ground.bootstrap,
        topic_prefix=prefix,
        group=prefix,
        partitions=4,
        state_dir=folder / "state",
        lake=str(folder / "lake"),
        worker_http_port=free_port(),
        sink_http_port=free_port(),
        transaction_interval=f"{case.transaction}ms",
    )
    folder.mkdir(parents=True)
    topics.create(settings)
    run = observed(settings, case, folder, ground.broker)
    found = sum(1 for _ in history.read(settings, [Topology(settings).topic_of("Example")]))
    if found != case.load.corrections:  # the watcher stops at the last one
        raise Void(f"{case.load.corrections} corrections became {found} examples")
    return replace(run, run=number)


def observed(settings: Settings, case: Case, folder: Path, broker: int | None) -> Run:
    """Whatever the topics hold already: a worker, the load, and who watches it. Raises Void."""
    with Site(settings, folder) as site:
        worker = site.start("worker", ["-m", "flyback", "worker"])
        site.until(lambda: is_well(settings.worker_http_port), "the worker is well")
        if case.watcher == "look":
            site.start("sink", ["-m", "flyback", "sink"])
            site.until(lambda: is_well(settings.sink_http_port), "the sink is well")
        watcher = site.start_beside(case.watcher, case.load)
        sender = site.start_beside("send", case.load)
        began = time.monotonic()
        before = cpu_seconds_of(worker.pid), cpu_seconds_of(broker)
        sender.wait(case.load.seconds + PATIENCE)
        seconds = time.monotonic() - began
        cpu, broker_cpu = cpu_seconds_of(worker.pid) - before[0], cpu_seconds_of(broker) - before[1]
        watcher.wait(2 * PATIENCE)
        site.check()
        detail = {"worker_percent": 100 * cpu / seconds}
        if broker:
            detail["broker_percent"] = 100 * broker_cpu / seconds
        if case.watcher == "read" and case.transaction == DEFAULT_TRANSACTION:
            detail["idle_percent"] = idle_percent(worker)
        memory = float(peak_megabytes(worker))
    detail |= latencies(case.load, json.loads((folder / f"{case.watcher}.json").read_text(encoding="utf-8")))
    output.note(f"{case.name}: p50 {detail['p50_ms']:.0f} ms, p99 {detail['p99_ms']:.0f} ms")
    return Run("latency", case.name, case.load.rate, 0, seconds, cpu, memory, case.load.events, detail)


def latencies(load: Load, seen: Seen) -> dict[str, float]:
    """Milliseconds from sending, and from arrival, until the example was seen. Raises Void unless all were.

    "Written" is from arrival until the worker gave the example to Kafka: what follows is the transaction's end.
    """
    if len(seen) != load.corrections:
        raise Void(f"{len(seen)} of {load.corrections} corrections became an example within {PATIENCE:g} s")
    whole = [(moment - sent) / 1000 for sent, _, _, moment in seen.values()]
    after = [(moment - arrived) / 1000 for _, arrived, _, moment in seen.values()]
    written = [(written - arrived) / 1000 for _, arrived, written, _ in seen.values()]

    return {
        "p50_ms": at_percent(whole, 50),
        "p99_ms": at_percent(whole, 99),
        "max_ms": max(whole),
        "p50_after_arrival_ms": at_percent(after, 50),
        "p99_after_arrival_ms": at_percent(after, 99),
        "p50_written_ms": at_percent(written, 50),
    }


def idle_percent(worker: ChildProcess) -> float:
    """What a worker takes of a core while nothing comes."""
    time.sleep(_SETTLED_SECONDS)
    before = cpu_seconds_of(worker.pid)
    time.sleep(_IDLE_SECONDS)
    return 100 * (cpu_seconds_of(worker.pid) - before) / _IDLE_SECONDS


class Site:
    """The processes of one case, all killed at its end."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = {**os.environ, **settings.environment()}
        self._folder = folder
        self._running: list[ChildProcess] = []
        self._stack = ExitStack()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, name: str, arguments: Sequence[str]) -> ChildProcess:
        command = [sys.executable, *arguments]
        log = self._folder / f"{name}.log"
        process = ChildProcess(name, command, log, env=self._environment, cwd=contest.ROOT)
        process.start()
        self._stack.callback(process.kill)
        self._running.append(process)
        return process

    def start_beside(self, how: str, load: Load) -> ChildProcess:
        """A process of `latency_process`, once it has begun."""
        arguments = [how, str(load.rate), str(load.seconds), str(load.first), str(self._folder)]
        process = self.start(how, ["-m", "benchmarks.latency_process", *arguments])
        self.until((self._folder / how).exists, f"{how} begins")
        return process

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise Void(f"not within {PATIENCE:g} s: {what}")
            time.sleep(0.01)

    def check(self) -> None:
        """Raises Void where a process has failed."""
        for process in self._running:
            if process.exit_code:
                raise Void(f"{process.name} ended with exit code {process.exit_code}:\n{process.log_tail()}")


def is_well(port: int) -> bool:
    """Whether the process with this port says so."""
    return bool(endpoints.health(f"127.0.0.1:{port}").get("ok"))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, action="append", help=f"events a second; may be given again {RATES}")
    parser.add_argument("--transaction", type=int, action="append", help=f"ms; may be given again {TRANSACTIONS}")


if __name__ == "__main__":
    sys.exit(contest.command_line("latency", __doc__, 40_000, measure, _DETAILS, _options))
