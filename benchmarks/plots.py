"""The figures that a picture shows better than a table, as SVG files."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks import goals
from benchmarks.contest import Run, marginal
from benchmarks.goals import runs_of, speed
from benchmarks.suite import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "flyback", "font.family": "sans-serif"})


def draw(results: Results, folder: Path) -> list[str]:
    """One file for each benchmark with a picture, as far as there are results; gives their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        if name in results:
            figure = Figure(figsize=(7, 3.2), layout="constrained")
            picture(results, figure.subplots())
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            drawn.append(f"{name}.svg")
    return drawn


def _speeds(benchmark: str, title: str) -> Any:
    """Bars of events per CPU-second, without start where two sizes tell it."""

    def picture(results: Results, axes: Axes) -> None:
        by_name = {name: runs_of(results, benchmark, name) for name in _names(results, benchmark)}
        speeds = {name: marginal(runs) or speed(runs) for name, runs in by_name.items()}
        _bars(axes, speeds)
        axes.set_xlabel(title)
        axes.set_xscale("log")

    return picture


def _latency(results: Results, axes: Axes) -> None:
    """p50 and p99 by transaction length, a line a rate."""
    by_rate: dict[int, dict[int, list[Run]]] = {}
    for name in _names(results, "latency"):
        if name.startswith("in Kafka"):
            length = int(name.split()[-2])
            runs = runs_of(results, "latency", name)
            by_rate.setdefault(runs[0].size, {})[length] = runs
    for number, (rate, by_length) in enumerate(sorted(by_rate.items())):
        for percent, style in (("p50_ms", "o-"), ("p99_ms", "o:")):
            found = {
                length: statistics.median(run.detail[percent] for run in by_length[length]) for length in by_length
            }
            lengths = sorted(found)
            label = f"{rate:,} events/s, {percent[:3]}"
            axes.plot(lengths, [found[each] for each in lengths], style, color=f"C{number}", label=label)
    axes.set_xlabel("length of transactions (ms)")
    axes.set_ylabel("correction → example (ms)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")


def _growth(results: Results, axes: Axes) -> None:
    """Throughput by stored predictions."""
    speeds = {name: speed(runs_of(results, "growth", name)) for name in _names(results, "growth")}
    _bars(axes, speeds)
    axes.set_xlabel("events per CPU-second")


def _lake(results: Results, axes: Axes) -> None:
    """How many times as long as plain Parquet each query takes."""
    names = dict.fromkeys(one["query"] for one in results["lake"]["runs"] if one["query"] != "opening")
    _bars(axes, {name: goals.query_ms(results, name) / goals.query_ms(results, name, "plain") for name in names})
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as long as over compact plain Parquet")


PICTURES = {
    "engine": _speeds("engine", "events per CPU-second, without start"),
    "latency": _latency,
    "growth": _growth,
    "sdk": _speeds("sdk", "events per CPU-second, without start"),
    "sink": _speeds("sink", "rows per CPU-second, without start"),
    "lake": _lake,
}


def _bars(axes: Axes, values: Mapping[str, float]) -> None:
    names: Sequence[str] = list(values)[::-1]
    bars = axes.barh(names, [values[name] for name in names])
    axes.bar_label(bars, fmt="{:,.3g}" if max(values.values()) < 100 else "{:,.0f}", padding=3)
    axes.margins(x=0.15)


def _names(results: Results, benchmark: str) -> list[str]:
    return list(dict.fromkeys(run["contender"] for run in results[benchmark]["runs"]))
