"""What an installation needs for a load, from what the other benchmarks measured on one machine.

The model is a straight line for each resource: so much for a process that idles, so much for a transaction or a commit,
so much for an event. The lines go through some of the measured points; `checks` holds them against others, which they
were not drawn through. Whole cores and whole processes are planned half full, so that what an outage of an hour left is
worked off in the hour after.

    python -m benchmarks.capacity --results benchmarks/results
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import goals, report, suite
from benchmarks.contest import Run, Void, marginal, table
from benchmarks.suite import Results
from flyback.cli import output
from flyback.errors import FlybackError

FULL = 0.5
"""How much of a process's core the usual load takes."""
LOADS = (100, 1_000, 10_000, 100_000, 1_000_000)
"""Raw events a second."""
WINDOW_DAYS = 30
RETENTION_WINDOWS = 3
"""Raw topics are kept for so many join windows."""
REPLICAS = 3
_DAY = 86_400
_SENT = 10 / 9  # events for each stored prediction in `benchmarks.growth`: one event in ten is feedback


@dataclass(frozen=True)
class Costs:
    """Of one machine. CPU in seconds of one core, sizes in bytes, memory in MB.

    `transaction`: of a worker for each transaction, whatever is in it; `event`: for each event in it. `row`: of a sink
    for each raw event and what is derived from it. `broker`: of all brokers for each event, produced, joined
    and landed. `state`: of each stored prediction with its feedback. `raw` and `lake`: of each raw event.
    """

    idle: float
    transaction: float
    event: float
    row: float
    broker: float
    state: float
    raw: float
    lake: float
    restored: float
    worker_mb: float
    sink_mb: float

    def worker_cores(self, rate: float, transaction_seconds: float = 0.1) -> float:
        """Of one worker that gets so many events a second."""
        return self.idle + self.transaction / transaction_seconds + self.event * rate


@dataclass(frozen=True)
class Plan:
    """What a load needs. Disks in bytes, `restore` in seconds until a worker that lost its disk goes on.

    `installations`: a lake has one sink, so what is too much for one is split over topics of several prefixes.
    """

    rate: int
    workers: int
    partitions: int
    installations: int
    broker_cores: float
    broker_disk: float
    state_disk: float
    lake_a_day: float
    memory_mb: float
    restore: float


def costs(results: Results) -> Costs:
    """From the results of the suite. Raises Void where a benchmark is missing."""
    try:
        event, row = 1 / _marginal(results, "engine", "flyback"), 1 / _marginal(results, "sink", "flyback sink")
        smallest = _grown(results)[0]
        idle = _latency(results, 500, "idle_percent") / 100
        return Costs(
            idle=idle,
            transaction=max(0.0, (_latency(results, 500, "worker_percent") / 100 - idle - 500 * event) * 0.1),
            event=event,
            row=row,
            broker=_latency(results, 10_000, "broker_percent") / 100 / 10_000,
            state=smallest.detail["state_mb"] * 1e6 / smallest.size,
            raw=smallest.detail["state_mb"] * 1e6 / smallest.detail["of_raw"] / (smallest.size * _SENT),
            lake=_median(results, "sink", "flyback sink", "bytes_per_row"),
            restored=_median(results, "restore", "restore", "restored/s"),
            worker_mb=max(run.rss_mb for run in _grown(results)),
            sink_mb=max(run.rss_mb for run in goals.runs_of(results, "sink", "flyback sink")),
        )
    except (KeyError, ValueError, IndexError, statistics.StatisticsError) as error:
        raise Void(f"the results of a benchmark are missing: {error}; type `make bench-full`") from error


def plan(each: Costs, rate: int, window_days: float = WINDOW_DAYS) -> Plan:
    """For so many raw events a second, nine in ten of them predictions."""
    workers = math.ceil(each.event * rate / FULL)
    installations = math.ceil(each.row * rate / FULL)
    kept = rate * _DAY * window_days
    return Plan(
        rate=rate,
        workers=workers,
        partitions=max(4, 2 * workers),
        installations=installations,
        broker_cores=each.broker * rate / FULL,
        broker_disk=kept * RETENTION_WINDOWS * each.raw * REPLICAS,
        state_disk=kept / _SENT * each.state,
        lake_a_day=rate * _DAY * each.lake,
        memory_mb=workers * each.worker_mb + installations * each.sink_mb,
        restore=kept / workers / each.restored,
    )


def checks(results: Results) -> list[tuple[str, float, float]]:
    """What, as the model has it, and as it was measured: points that the model was not drawn through."""
    each, largest = costs(results), _grown(results)[-1]
    cores = {rate: _latency(results, rate, "worker_percent") / 100 for rate in (2_000, 10_000)}
    state = f"GB of state at {largest.size:,} predictions"
    return [
        *((f"a worker's cores at {rate:,} events/s", each.worker_cores(rate), found) for rate, found in cores.items()),
        (state, each.state * largest.size / 1e9, largest.detail["state_mb"] / 1e3),
    ]


def markdown(results: Results) -> dict[str, str]:
    """By mark of docs/capacity.md: the measured costs, the checks, the plans for `LOADS`."""
    each = costs(results)
    lines = [
        ("an idle worker", f"{100 * each.idle:.1f} % of a core"),
        ("a worker, for each transaction", f"{1e3 * each.transaction:.2f} ms"),
        ("a worker, for each event", f"{1e6 * each.event:.1f} µs"),
        ("a sink, for each row", f"{1e6 * each.row:.1f} µs"),
        ("brokers, for each event", f"{1e6 * each.broker:.1f} µs"),
        ("state, for each prediction", f"{each.state:,.0f} bytes"),
        ("raw topics, for each event and replica", f"{each.raw:,.0f} bytes"),
        ("lake, for each raw event", f"{each.lake:,.0f} bytes"),
        ("restored by a worker", f"{each.restored:,.0f} events/s"),
        ("a worker's memory", f"{each.worker_mb:,.0f} MB"),
        ("a sink's memory", f"{each.sink_mb:,.0f} MB"),
    ]
    held = [
        (what, f"{model:.3g}", f"{found:.3g}", f"{model / found - 1:+.0%}") for what, model, found in checks(results)
    ]
    return {
        "costs": table(("what", "measured"), lines),
        "checks": table(("what", "the model", "measured", "off by"), held),
        "plans": table(_COLUMNS, [_shown(plan(each, rate)) for rate in LOADS]),
    }


_COLUMNS = (
    "events/s", "workers", "partitions", "installations", "broker cores", "broker disk", "state", "lake a day",
    "memory", "restoring a worker",
)  # fmt: skip


def _shown(found: Plan) -> Sequence[str]:
    return (
        *(f"{count:,}" for count in (found.rate, found.workers, found.partitions, found.installations)),
        f"{found.broker_cores:.1f}",
        *map(_size, (found.broker_disk, found.state_disk, found.lake_a_day, found.memory_mb * 1e6)),
        f"{found.restore / 3600:,.1f} h",
    )


def _size(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e6:,.0f} MB"


def _marginal(results: Results, benchmark: str, contender: str) -> float:
    found = marginal(goals.runs_of(results, benchmark, contender))
    if found is None:
        raise ValueError(f"{contender} was too short to be measured")
    return found


def _latency(results: Results, rate: int, name: str) -> float:
    return _median(results, "latency", f"in Kafka, {rate:,} events/s, transactions of 100 ms", name)


def _median(results: Results, benchmark: str, contender: str, name: str) -> float:
    runs = goals.runs_of(results, benchmark, contender)
    largest = max(run.size for run in runs)
    return float(statistics.median(run.detail[name] for run in runs if run.size == largest))


def _grown(results: Results) -> list[Run]:
    """With the fewest partitions, the smallest size first."""
    runs = [Run(**run) for run in results["growth"]["runs"]]
    fewest = min(run.detail["partitions"] for run in runs)
    return sorted((run for run in runs if run.detail["partitions"] == fewest), key=lambda run: run.size)


def main() -> int:
    """Gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"), help="where results are")
    parser.add_argument("--page", type=Path, help="put the tables between the marks of this page")
    given = parser.parse_args()
    try:
        parts = markdown(suite.results(given.results))
    except FlybackError as error:
        output.complain(str(error))
        return error.exit_code
    if given.page:
        report.fill(given.page, parts)
    output.print_line("\n".join(parts.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
