"""A real worker and a real sink over what was sent, watched by what they say on /metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from flyback import endpoints, history
from flyback.bench.clients import PATIENCE, Plain
from flyback.bench.events import CORRECTED, Events, key
from flyback.bench.ground import Ground
from flyback.bench.measure import MOST_STEADY_RATE, Moment, Part, Plan, Progress, Sent, at_percent, part
from flyback.landing import Stalled
from flyback.stack import Supervised
from flyback.streams.topology import Topology

_POLL_SECONDS = 0.2
_NEARLY = 0.9
_LEAST_RATE = 10
_STEADY_SHARE = 10  # of what the worker takes: a moderate load
_BLOCK = 4_000_000


def bulk(ground: Ground, plan: Plan, sent: Sent, progress: Progress) -> Part:
    """Start the worker and let it take everything that was sent; it goes on running.

    Raises Stalled where it does not take all of it, or derives too little; ProcessEnded where it ends.
    """

    def taken(moment: Moment) -> float:
        return moment.count("flyback_events_total") + moment.count("flyback_derived_total")

    process, endpoint = ground.stack.worker, ground.stack.worker_endpoint
    begun, ended = _drained(process, endpoint, taken, sent.events + sent.corrections, progress)
    details = {
        "transactions": _between(begun, ended, "flyback_transaction_seconds_count"),
        "transactions_percent": _percent(begun, ended, "flyback_transaction_seconds_sum"),
    }
    events = int(_between(begun, ended, "flyback_events_total"))
    return part("worker", events, plan.event_bytes, begun, ended, **details)


def steady(ground: Ground, plan: Plan, events: Events, sent: Sent, rate: int, progress: Progress) -> Part:
    """From a correction to its example, at so many events a second, one in ten a correction of what is a second old."""
    settings = ground.settings
    topic = Topology(settings).topic_of("Example")
    config = settings.kafka(group_id=settings.group, enable_auto_commit=False, isolation_level="read_committed")
    consumer = Consumer(config | {"log_level": 0})
    waiting: dict[bytes, float] = {}
    took: list[float] = []

    def read(until: float) -> None:
        """What comes until then, or is there already."""
        while (message := consumer.poll(max(0.0, until - time.monotonic()))) is not None:
            if message.error() is None and (sent_at := waiting.pop(message.key() or b"", None)) is not None:
                took.append(1000 * (time.monotonic() - sent_at))

    try:
        with Plain(settings, events, sent) as producer:
            ends = history.bounds(settings, [topic])
            consumer.assign([TopicPartition(*place, end) for place, (_, end) in ends.items()])
            consumer.poll(1.0)  # connected by then
            first, total = sent.events, max(20, int(rate * plan.seconds))
            begun, began = _moment(ground.stack.worker_endpoint), time.monotonic()
            for done in range(total):
                read(began + done / rate)
                about = sent.events - CORRECTED - rate // 10 * 10
                if sent.events % 10 == CORRECTED and about >= first:
                    waiting[key(about)] = time.monotonic()
                    producer.correct(about)
                else:
                    producer.predict()
                if done % rate == 0:
                    ground.stack.worker.check()
                    progress("latency", done, total)
            ended = _moment(ground.stack.worker_endpoint)
            patience = time.monotonic() + PATIENCE
            producer.flush()
            while waiting and time.monotonic() < patience:
                ground.stack.worker.check()
                read(time.monotonic() + _POLL_SECONDS)
    finally:
        consumer.close()
    if waiting or not took or begun is None or ended is None:
        raise Stalled(f"{len(waiting)} corrections became no example within {PATIENCE:g} s")
    progress("latency", total, total)
    transactions = max(1.0, _between(begun, ended, "flyback_transaction_seconds_count"))
    details = {
        "corrections": len(took),
        "p50_ms": at_percent(took, 50),
        "p99_ms": at_percent(took, 99),
        "transaction_ms": 1000 * _between(begun, ended, "flyback_transaction_seconds_sum") / transactions,
    }
    return part("latency", total, plan.event_bytes, begun, ended, **details)


def steady_rate(worker: Part) -> int:
    """A load that the worker carries with ease, events a second."""
    return max(_LEAST_RATE, min(MOST_STEADY_RATE, int(worker.events_per_second) // _STEADY_SHARE))


def land(ground: Ground, plan: Plan, sent: Sent, progress: Progress) -> Part:
    """Stop the worker and let a sink bring everything into the lake: raw events, and an example for each correction."""
    ground.stack.worker.stop()
    rows = sent.events + sent.corrections

    def taken(moment: Moment) -> float:
        return sum(
            moment.count("flyback_sink_rows_total", table) for table in ("predictions", "corrections", "examples")
        )

    begun, ended = _drained(ground.stack.sink, ground.stack.sink_endpoint, taken, rows, progress)
    ground.stack.sink.stop()
    landed = int(_between(begun, ended, "flyback_sink_rows_total"))
    written = sum(file.stat().st_size for file in Path(ground.settings.lake).rglob("*") if file.is_file())
    details = {
        "commits": _between(begun, ended, "flyback_sink_commits_total"),
        "commits_percent": _percent(begun, ended, "flyback_sink_commit_seconds_sum"),
        "disk_mb_per_second": written / 1e6 * (landed / rows) / (ended.at - begun.at),
        "disk_plain_mb_per_second": plain_write(Path(ground.settings.lake).parent / "plain", plan.disk_sample),
    }
    return part("sink", landed, plan.event_bytes, begun, ended, **details)


def plain_write(path: Path, size: int) -> float:
    """MB/s of one file of that size, until it is on the disk."""
    block, began = os.urandom(_BLOCK), time.perf_counter()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return size / 1e6 / seconds


def _drained(
    process: Supervised, endpoint: str, taken: Callable[[Moment], float], wanted: int, progress: Progress
) -> tuple[Moment, Moment]:
    """Start the process, let it take everything, and give two moments between which it was at it all the time."""
    process.start()
    seen: list[tuple[int, Moment]] = []
    done, moved_at = -1, time.monotonic()
    while done < wanted:
        time.sleep(_POLL_SECONDS)
        process.check()
        if (moment := _moment(endpoint)) is not None:
            seen.append((int(taken(moment)), moment))
        if seen and seen[-1][0] != done:
            done, moved_at = seen[-1][0], time.monotonic()
            progress(process.name, done, wanted)
        elif time.monotonic() - moved_at > PATIENCE:
            why = f"none more for {PATIENCE:g} s: see {process.log}"
            raise Stalled(f"the {process.name} has taken {max(0, done)} of {wanted} messages, and {why}")
    if done != wanted:
        raise Stalled(f"the {process.name} has taken {done} messages, and there are {wanted}: see {process.log}")
    return _at_work(seen, wanted)


def _at_work(seen: Sequence[tuple[int, Moment]], wanted: int) -> tuple[Moment, Moment]:
    """Without the start, and without the end, when a sink waits for its commit interval; small loads have no middle."""
    first = next((done, moment) for done, moment in seen if done)
    last = next((done, moment) for done, moment in seen if done >= _NEARLY * wanted)
    if last[0] - first[0] < wanted / 2:
        return seen[0][1], seen[-1][1]
    return first[1], last[1]


def _moment(endpoint: str) -> Moment | None:
    """What the process says now; None where it does not answer (yet)."""
    from prometheus_client.parser import text_string_to_metric_families

    said = endpoints.metrics(endpoint.removeprefix("http://"), seconds=2)
    if not said:
        return None
    counts = {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(said)
        for sample in family.samples
    }
    return Moment(counts.get(("process_cpu_seconds_total", "")), counts)


def _between(begun: Moment, ended: Moment, metric: str) -> float:
    return ended.count(metric) - begun.count(metric)


def _percent(begun: Moment, ended: Moment, seconds: str) -> float:
    """The share of the time that was spent in what this metric counts the seconds of."""
    return 100 * _between(begun, ended, seconds) / (ended.at - begun.at)
