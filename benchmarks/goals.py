"""What we want to reach, and whether a run of the suite did. Ratios are between contenders of the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.contest import Run, marginal, table
from benchmarks.suite import Results

Figure = Callable[[Results], float]
"""Raises KeyError, ValueError or StatisticsError where the results do not have it."""


@dataclass(frozen=True)
class Goal:
    """`at_least` or `at_most`, in the figure's own unit."""

    what: str
    figure: Figure
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def line(self, results: Results) -> tuple[str, str, str, str]:
        """What, goal, measured, and whether it holds."""
        limit, sign = (self.at_least, "≥") if self.at_least is not None else (self.at_most, "≤")
        assert limit is not None, "a goal has a limit"
        wanted = f"{sign} {_shown(limit)}{self.unit}"
        try:
            found = self.figure(results)
        except (KeyError, ValueError, statistics.StatisticsError):
            return self.what, wanted, "not measured", ""
        holds = found >= limit if self.at_least is not None else found <= limit
        return self.what, wanted, f"{_shown(found)}{self.unit}", "yes" if holds else "no"


def markdown(results: Results) -> str:
    """All goals beside what was measured."""
    return table(("what", "goal", "measured", "reached"), [goal.line(results) for goal in GOALS])


def runs_of(results: Results, benchmark: str, contender: str) -> list[Run]:
    """One contender's runs. Raises KeyError where the benchmark did not run."""
    return [Run(**run) for run in results[benchmark]["runs"] if run["contender"] == contender]


def _ratio(benchmark: str, contender: str, peer: str) -> Figure:
    """Of events per CPU-second, both without their start."""

    def figure(results: Results) -> float:
        ours, theirs = (marginal(runs_of(results, benchmark, name)) for name in (contender, peer))
        if ours is None or theirs is None:
            raise ValueError("too short to be measured")
        return ours / theirs

    return figure


def _detail(benchmark: str, contender: str, name: str) -> Figure:
    return lambda results: statistics.median(run.detail[name] for run in _largest(results, benchmark, contender))


def _largest(results: Results, benchmark: str, contender: str) -> list[Run]:
    runs = runs_of(results, benchmark, contender)
    return [run for run in runs if run.size == max(each.size for each in runs)]


def _growth(results: Results) -> dict[tuple[int, int], list[Run]]:
    """By size and number of partitions."""
    found: dict[tuple[int, int], list[Run]] = {}
    for run in (Run(**run) for run in results["growth"]["runs"]):
        found.setdefault((run.size, run.detail["partitions"]), []).append(run)
    return found


def speed(runs: Iterable[Run]) -> float:
    """Median of events per CPU-second."""
    return statistics.median(run.events / run.cpu_seconds for run in runs)


def _growth_ratio(results: Results) -> float:
    found = _growth(results)
    fewest = min(partitions for _, partitions in found)
    smallest, *_, largest = sorted(size for size, partitions in found if partitions == fewest)
    return speed(found[largest, fewest]) / speed(found[smallest, fewest])


def _partitions_ratio(results: Results) -> float:
    found = _growth(results)
    smallest = min(size for size, _ in found)
    few, *_, many = sorted(partitions for size, partitions in found if size == smallest)
    return speed(found[smallest, many]) / speed(found[smallest, few])


def _growth_most(name: str) -> Figure:
    def figure(results: Results) -> float:
        return max(
            run.rss_mb if name == "rss_mb" else run.detail[name] for runs in _growth(results).values() for run in runs
        )

    return figure


def _peak(process: str) -> Figure:
    return lambda results: max(
        float(peak["megabytes"]) for peak in results["memory"]["runs"] if peak["process"] == process
    )


def query_ms(results: Results, name: str, side: str = "lake") -> float:
    """Median of a query's repeats but the first, which also reads what later ones find in memory."""
    found = [one for one in results["lake"]["runs"] if one["query"] == name]
    return 1000 * statistics.median(float(one[side]["seconds"]) for one in found[1:] or found)


def _query(name: str) -> Figure:
    return lambda results: query_ms(results, name)


def _worst_query(results: Results) -> float:
    names = {one["query"] for one in results["lake"]["runs"]} - {"opening"}
    return max(query_ms(results, name) / query_ms(results, name, "plain") for name in names)


_STEADY = "in Kafka, 2,000 events/s, transactions of 100 ms"
_SHOWN = "in DuckDB, 2,000 events/s, transactions of 100 ms"

GOALS = (
    Goal("engine, bulk, per CPU-second: beside raw consume", _ratio("engine", "flyback", "raw-consume"), "x", 0.25),
    Goal("… Kafka Streams, DSL", _ratio("engine", "flyback", "kafka-streams-dsl"), "x", 3.5),
    Goal("… Kafka Streams, Processor", _ratio("engine", "flyback", "kafka-streams-processor"), "x", 3.5),
    Goal("… quixstreams", _ratio("engine", "flyback", "quixstreams"), "x", 4),
    Goal("… Faust tables", _ratio("engine", "flyback", "faust-tables"), "x", 25),
    Goal("correction → example at 2,000 events/s: p50", _detail("latency", _STEADY, "p50_ms"), " ms", at_most=70),
    Goal("… p99", _detail("latency", _STEADY, "p99_ms"), " ms", at_most=150),
    Goal("… worker's CPU", _detail("latency", _STEADY, "worker_percent"), " %", at_most=8),
    Goal("… idle worker's CPU", _detail("latency", _STEADY, "idle_percent"), " %", at_most=1),
    Goal("correction → DuckDB: p99", _detail("latency", _SHOWN, "p99_ms"), " ms", at_most=3_000),
    Goal("largest state: throughput beside the smallest", _growth_ratio, "x", 0.85),
    Goal("… 64 partitions beside 4", _partitions_ratio, "x", 0.85),
    Goal("… RSS", _growth_most("rss_mb"), " MB", at_most=600),
    Goal("… disk beside raw bytes", _growth_most("of_raw"), "x", at_most=0.5),
    Goal("restore, one worker", _detail("restore", "restore", "restored/s"), "/s", 200_000),
    Goal("restore, two workers", _detail("restore", "restore, two workers", "restored/s"), "/s", 200_000),
    Goal("sink", _detail("sink", "flyback sink", "rows_per_second"), " rows/s", 200_000),
    Goal("… per CPU-second, beside plain pyarrow", _ratio("sink", "flyback sink", "plain pyarrow"), "x", 0.6),
    Goal("live page, 50 viewers: requests, p95", _detail("dashboard", "50 viewers", "api_p95_ms"), " ms", at_most=100),
    Goal("… browser's main thread, an update", _detail("dashboard", "50 viewers", "page_ms"), " ms", at_most=20),
    Goal("… prediction → page, slowest", _detail("dashboard", "50 viewers", "seen_max_ms"), " ms", at_most=2_000),
    Goal("… first paint", _detail("dashboard", "50 viewers", "paint_ms"), " ms", at_most=500),
    Goal("worker's RSS", _peak("worker"), " MB", at_most=600),
    Goal("sink's RSS", _peak("sink"), " MB", at_most=800),
    Goal("slowest lake query, beside compact plain Parquet", _worst_query, "x", at_most=1.5),
    Goal("one prediction by its id", _query("one prediction by its id"), " ms", at_most=100),
    Goal("rate by hour and segment", _query("rate by hour and segment"), " ms", at_most=300),
    Goal("SDK, per CPU-second, beside the bare loop", _ratio("sdk", "sdk", "bare loop"), "x", 0.7),
    Goal("predict(): p99", _detail("sdk", "sdk, paced", "p99_us"), " µs", at_most=100),
)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
