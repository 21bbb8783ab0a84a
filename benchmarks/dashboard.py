"""The live page under load: what its viewers cost, and how soon a prediction is on it.

A real Kafka, worker, sink and dashboard. `failure-rates.v1` holds `--days` days of minutes of `--segments` segments
with three versions each, in each of four partitions, and `--rate` events/s come. `--viewers` read the live stream of
four different views, a browser shows all segments and versions of a day, and another page one segment, of which
something is predicted every two seconds.

"api" are requests one after another, "gap" is the time between two updates of a viewer, "page" what the browser's main
thread works for an update, "paint" when the page first shows something, "seen" from `predict()` until the number on
the page has changed. CPU is that of the dashboard, in percent of one core also of the worker.

    python -m benchmarks.dashboard --days 7 --segments 100 --rate 5000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen
from uuid import uuid4

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import contest
from benchmarks.contest import Ground, Run, Void, cpu_seconds_of
from benchmarks.latency import Site, is_well
from benchmarks.latency_process import Load
from benchmarks.memory import peak_megabytes
from benchmarks.workload import bulk_producer, send
from flyback import Client, endpoints, model, topics
from flyback import settings as configuration
from flyback.bench.measure import at_percent
from flyback.cli import output
from flyback.local.process import ChildProcess, free_port
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.streams.topology import Topology

VIEWERS = (1, 50, 500)
ASKED = ("rates?range=24h&by=segment,version", "view?range=24h", "failures", "alerts", "health")
VERSIONS = 3
PARTITIONS = 4
_LOADED = 1_200_000.0  # ms until the dashboard has read everything
_BETWEEN_REQUESTS = 0.05
_BETWEEN_PREDICTIONS = 2.0
_MINUTE = 60_000_000
_DETAILS = (
    "dashboard_percent", "worker_percent", "tick_ms", "api_p50_ms", "api_p95_ms", "gap_p99_ms", "page_ms", "paint_ms",
    "seen_p50_ms", "seen_max_ms",
)  # fmt: skip

_WATCH = """() => {
    window.seen = [];
    const figure = document.querySelector("#stat-predictions .figure");
    const note = () => window.seen.push([figure.textContent, Date.now()]);
    new MutationObserver(note).observe(figure, {childList: true, characterData: true, subtree: true});
}"""


class Pages(NamedTuple):
    """`busy` shows everything; `probe` the segment `probe`."""

    busy: Page
    probe: Page
    paint_ms: float


def measure(ground: Ground, given: argparse.Namespace) -> Iterator[Run]:
    """One run for each number of viewers, over the same history. Raises Void."""
    prefix = f"bench-{uuid4().hex[:8]}."
    settings = configuration.load(
        bootstrap_servers=ground.bootstrap,
        topic_prefix=prefix,
        group=prefix,
        partitions=PARTITIONS,
        state_dir=ground.folder / "state",
        lake=str(ground.folder / "lake"),
        worker_http_port=free_port(),
        sink_http_port=free_port(),
        dashboard_port=free_port(),
    )
    topics.create(settings)
    cells = fill(settings, given.segments, given.days)
    output.note(f"{cells:,} counts in {Topology(settings).topic_of('FailureRate')}")
    viewers = given.viewers or VIEWERS
    load = Load(given.rate, given.seconds * (len(viewers) + 1) + 10)
    with Site(settings, ground.folder) as site, browser() as shown, Client(settings) as client:
        worker = site.start("worker", ["-m", "flyback", "worker"])
        site.start("sink", ["-m", "flyback", "sink"])
        dashboard = site.start("dashboard", ["-m", "flyback", "dashboard"])
        site.until(lambda: is_well(settings.worker_http_port), "the worker is well")
        site.until(lambda: is_well(settings.dashboard_port), "the dashboard is well")
        pages = opened(shown, settings)
        site.start_beside("send", load)
        for many in viewers:
            yield once(
                site,
                ground.folder / f"view-{many}.json",
                pages,
                client,
                settings,
                (worker, dashboard),
                many,
                given.seconds,
            )
        site.check()


def once(
    site: Site,
    file: Path,
    pages: Pages,
    client: Client,
    settings: Settings,
    processes: tuple[ChildProcess, ChildProcess],
    viewers: int,
    seconds: float,
) -> Run:
    """With so many viewers, for so long; `file` is theirs. `processes`: worker and dashboard."""
    worker, dashboard = processes
    url = f"http://127.0.0.1:{settings.dashboard_port}"
    told = site.start(file.stem, ["-m", "benchmarks.dashboard_process", url, str(viewers), str(seconds), str(file)])
    site.until(file.exists, "the viewers look")
    pages.probe.evaluate(_WATCH)
    session = pages.busy.context.new_cdp_session(pages.busy)
    session.send("Performance.enable")
    before = _task_seconds(session), cpu_seconds_of(worker.pid), cpu_seconds_of(dashboard.pid), _ticks(settings)
    began = time.monotonic()
    asked: list[float] = []
    made: list[float] = []
    first = _count(pages.probe.locator("#stat-predictions .figure").inner_text())
    while (at := time.monotonic() - began) < seconds:
        if at >= len(made) * _BETWEEN_PREDICTIONS and at < seconds - _BETWEEN_PREDICTIONS:
            made.append(time.time())
            client.predict(task_id=uuid4().hex, actor=model("probe", "1"), input="x", output="y", segment="probe")
        started = time.perf_counter()
        with urlopen(f"{url}/api/v1/{ASKED[len(asked) % len(ASKED)]}", timeout=30) as answer:
            answer.read()
        asked.append(time.perf_counter() - started)
        time.sleep(_BETWEEN_REQUESTS)
    took = time.monotonic() - began
    after = _task_seconds(session), cpu_seconds_of(worker.pid), cpu_seconds_of(dashboard.pid), _ticks(settings)
    told.wait(contest.PATIENCE)
    site.check()
    page, worked, cpu = (later - earlier for later, earlier in zip(after[:3], before[:3], strict=True))
    ticks, tick_seconds = (later - earlier for later, earlier in zip(after[3], before[3], strict=True))
    seen = latencies(first, made, pages.probe.evaluate("window.seen"))
    gaps = json.loads(file.read_text(encoding="utf-8"))
    detail = {
        "dashboard_percent": 100 * cpu / took,
        "worker_percent": 100 * worked / took,
        "tick_ms": 1000 * tick_seconds / ticks,
        "api_p50_ms": 1000 * at_percent(asked, 50),
        "api_p95_ms": 1000 * at_percent(asked, 95),
        "gap_p99_ms": 1000 * at_percent(gaps, 99),
        "page_ms": 1000 * page / took,
        "paint_ms": pages.paint_ms,
        "seen_p50_ms": at_percent(seen, 50),
        "seen_max_ms": max(seen),
    }
    output.note(f"{viewers} viewers: {', '.join(f'{name} {value:.3g}' for name, value in detail.items())}")
    return Run("dashboard", f"{viewers} viewers", viewers, 0, took, cpu, peak_megabytes(dashboard), len(gaps), detail)


def fill(settings: Settings, segments: int, days: float) -> int:
    """Write what an engine would have counted, up to an hour ago; gives how many counts. Raises Void."""
    failures: list[str] = []
    producer = bulk_producer(settings, failures)
    topic, schema_id = Topology(settings).topic_of("FailureRate"), BundledCatalog().id_for("FailureRate", "")
    end = time.time_ns() // 1_000 // _MINUTE * _MINUTE - 60 * _MINUTE
    counts = dict.fromkeys(("weighted_reviews", "sum_w", "sum_wy", "sum_w2", "sum_w2y"), 0)
    made = 0
    for minute in range(end - round(days * 1_440) * _MINUTE, end, _MINUTE):
        for segment in range(segments):
            for version in range(VERSIONS):
                labels = "MODEL", "model", f"2026-{version}", f"segment-{segment}"
                counts |= {"predictions": 4 + made % 7, "reviewed": 2 + made % 2, "failures": made % 3 % 2}
                named = dict(zip(("actor_kind", "actor", "version", "segment"), labels, strict=True))
                for partition in range(PARTITIONS):
                    record = {"partition": partition, "minute": minute, **named, **counts, "derive_version": 1}
                    key = json.dumps([partition, minute, *labels], separators=(",", ":")).encode()
                    send(producer, topic, partition, key, codec.encode("FailureRate", record, schema_id))
                made += PARTITIONS
    if producer.flush(contest.PATIENCE) or failures:
        raise Void(f"not all counts were taken: {failures[:1]}")
    return made


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window. Raises Void where there is none."""
    program = shutil.which("chromium")
    if program is None:
        raise Void("there is no chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, chromium_sandbox=os.geteuid() != 0)
        try:
            yield found
        finally:
            found.close()


def opened(shown: Browser, settings: Settings) -> Pages:
    """Both pages, once the dashboard has read what there was."""
    url = f"http://127.0.0.1:{settings.dashboard_port}"
    began = time.monotonic()
    probe, busy = shown.new_page(), shown.new_page()
    probe.goto(f"{url}/?segment=probe")
    probe.locator("#state-name", has_text="Live").wait_for(timeout=_LOADED)
    output.note(f"read after {time.monotonic() - began:.0f} s")
    busy.goto(f"{url}/?range=24h&by=segment,version&top=20")
    busy.locator("#rows tr").first.wait_for(timeout=_LOADED)
    [paint] = busy.evaluate("performance.getEntriesByName('first-contentful-paint').map((paint) => paint.startTime)")
    return Pages(busy, probe, paint)


def latencies(first: int, made: list[float], seen: list[tuple[str, float]]) -> list[float]:
    """Milliseconds from each prediction until the page's number counted it: it said `first` before. Raises Void."""
    found = []
    for number, moment in enumerate(made, first + 1):
        shown = [at for text, at in seen if _count(text) >= number]
        if not shown:
            raise Void(f"prediction {number - first} of {len(made)} did not come to the page")
        found.append(min(shown) - 1000 * moment)
    return found


def _count(text: str) -> int:
    """A number as the page writes it."""
    return int("".join(filter(str.isdigit, text)) or 0)


def _task_seconds(session: object) -> float:
    """How long the page's main thread has worked so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]  # type: ignore[attr-defined]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def _ticks(settings: Settings) -> tuple[float, float]:
    """How often all views were computed so far, and the seconds that it took."""
    said = dict(
        line.rsplit(" ", 1)
        for line in endpoints.metrics(f"127.0.0.1:{settings.dashboard_port}").splitlines()
        if line.startswith("flyback_dashboard_tick_seconds_")
    )
    return float(said["flyback_dashboard_tick_seconds_count"]), float(said["flyback_dashboard_tick_seconds_sum"])


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=float, default=7, help="of minutes that were counted (default: %(default)s)")
    parser.add_argument("--segments", type=int, default=100, help="that were counted (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=5_000, help="events a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="for each number of viewers (default: %(default)s)")
    parser.add_argument("--viewers", type=int, action="append", help=f"may be given again {VIEWERS}")


if __name__ == "__main__":
    sys.exit(contest.command_line("dashboard", __doc__, 0, measure, _DETAILS, _options))
