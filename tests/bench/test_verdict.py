"""What limits a part, by made-up figures."""

from __future__ import annotations

from typing import Any

import pytest

from flyback.bench.measure import Part
from flyback.bench.verdict import Verdict, judge


def a_part(name: str, rate: float, cpu: float | None = 50, machine: float | None = 50, **details: float) -> Part:
    """Of one second, at 1 KB an event."""
    return Part(name, int(rate), 1.0, rate / 1000, cpu, machine, details)


def judged(partitions: int = 4, connect_ms: float | None = 0.2, **changes: dict[str, Any]) -> Verdict:
    """Of an installation on which nothing is busy, but for the `changes` to its parts."""
    usual: dict[str, dict[str, Any]] = {
        "produce": {"rate": 200_000, "ack_p50_ms": 1.0},
        "sdk": {"rate": 30_000},
        "consume": {"rate": 500_000},
        "worker": {"rate": 100_000, "transactions_percent": 20},
        "sink": {"rate": 150_000, "disk_mb_per_second": 50, "disk_plain_mb_per_second": 500},
    }
    parts = {name: a_part(name, **(figures | changes.get(name, {}))) for name, figures in usual.items()}
    return judge(parts, partitions, connect_ms)


@pytest.mark.parametrize(
    ("part", "figures", "what"),
    [
        ("worker", {"cpu": 99}, "cpu"),
        ("worker", {"cpu": 60, "machine": 98}, "machine"),
        ("worker", {"cpu": 99, "machine": 98}, "machine"),  # a second worker would not help here
        ("worker", {"transactions_percent": 70}, "broker"),
        ("worker", {"rate": 400_000}, "broker"),  # as what Kafka gives a plain consumer
        ("worker", {}, "unclear"),
        ("worker", {"cpu": None, "machine": None}, "unclear"),
        ("sink", {"cpu": 140}, "cpu"),
        ("sink", {"disk_mb_per_second": 300}, "disk"),
        ("sdk", {"cpu": 101}, "cpu"),
        ("sdk", {"rate": 190_000}, "broker"),
        ("produce", {"cpu": 110}, "cpu"),
        ("produce", {}, "broker"),
        ("produce", {"rate": 450_000}, "network"),  # both ways carry as much
    ],
)
def test_a_part_is_limited_by_what_it_uses_up(part: str, figures: dict[str, Any], what: str) -> None:
    limit = judged(**{part: figures}).limits[part]
    assert limit.what == what
    assert limit.by
    assert limit.next


def test_with_one_partition_a_busy_worker_is_limited_by_the_partitions() -> None:
    verdict = judged(partitions=1, worker={"cpu": 99})
    assert verdict.limits["worker"].what == "partitions"
    assert "more partitions" in verdict.limits["worker"].next


@pytest.mark.parametrize(
    ("connect_ms", "ack_ms", "what"), [(20, 22, "network"), (2, 22, "broker"), (None, 22, "broker")]
)
def test_transactions_wait_for_the_network_where_acknowledgements_do(
    connect_ms: float | None, ack_ms: float, what: str
) -> None:
    verdict = judged(connect_ms=connect_ms, worker={"transactions_percent": 80}, produce={"ack_p50_ms": ack_ms})
    assert verdict.limits["worker"].what == what


def test_the_narrowest_part_is_one_that_every_event_goes_through() -> None:
    assert judged().narrowest == "worker"
    assert judged(sink={"rate": 90_000}).narrowest == "sink"
    assert judged(produce={"rate": 10_000}).narrowest == "produce"


def test_all_workers_carry_no_more_than_kafka_gives_and_takes() -> None:
    assert judged(partitions=1).all_workers_events_per_second == 100_000
    verdict = judged(partitions=16)
    assert (verdict.worker_events_per_second, verdict.most_workers) == (100_000, 16)
    assert verdict.all_workers_events_per_second == 200_000
