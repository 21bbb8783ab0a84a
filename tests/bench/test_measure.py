"""How much is measured, and between which moments."""

from __future__ import annotations

import pytest

from flyback.bench.events import CORRECTED, LEAST_BYTES, Events
from flyback.bench.measure import Moment, Plan, at_percent, part
from flyback.bench.processes import _at_work
from flyback.schemas import codec


@pytest.mark.parametrize("event_bytes", [LEAST_BYTES, 1_000, 100_000, 1_000_000])
def test_without_asking_less_than_two_gigabytes_are_written(event_bytes: int) -> None:
    plan = Plan(event_bytes=event_bytes)
    if event_bytes <= 1_000:
        assert plan.kafka_bytes < 2_000_000_000
    assert plan.bulk * event_bytes <= 1_000_000_000
    assert Plan(event_bytes=event_bytes, events=500).bulk == 500


@pytest.mark.parametrize("event_bytes", [LEAST_BYTES, 1_000, 20_000])
def test_events_have_the_size_that_was_asked_for(event_bytes: int) -> None:
    events = Events(event_bytes)
    for number in (0, 1, 12_345):
        for record, (key, value) in {
            "Prediction": events.prediction(number),
            "Correction": events.correction(number),
        }.items():
            assert codec.decode(record, value, codec.bundled(record))["task_id"].encode() == key
            assert abs(len(value) - event_bytes) <= 0.2 * event_bytes
        answer = events.answer(number)
        assert answer["task_id"].encode() == events.prediction(number)[0]


def test_each_task_is_of_its_own() -> None:
    events = Events(1_000)
    assert len({events.prediction(number)[0] for number in range(10_000)}) == 10_000
    assert events.correction(10)[0] == events.prediction(10)[0] != events.prediction(10 + CORRECTED)[0]


def test_a_part_is_what_happened_between_two_moments() -> None:
    begun = Moment(1.0, {("events", "a"): 10, ("events", "b"): 5}, at=100.0, machine=(10.0, 40.0))
    ended = Moment(2.5, {("events", "a"): 90, ("events", "b"): 5}, at=102.0, machine=(13.0, 44.0))
    found = part("worker", int(ended.count("events") - begun.count("events")), 1_000, begun, ended, more=1.0)
    assert (found.events, found.seconds, found.cpu_percent, found.machine_percent) == (80, 2.0, 75.0, 75.0)
    assert (found.events_per_second, found.mb_per_second, found.details) == (40.0, 0.04, {"more": 1.0})
    assert ended.count("events", "b") == 5


def test_what_the_system_does_not_tell_is_left_open() -> None:
    unknown = part("worker", 1, 1_000, Moment(None, machine=None), Moment(None, machine=None))
    assert unknown.cpu_percent is unknown.machine_percent is None


def test_start_and_end_of_a_long_part_do_not_count() -> None:
    seen = [(done, Moment(0.0, at=at)) for at, done in enumerate([0, 0, 10, 40, 70, 95, 95, 100])]
    begun, ended = _at_work(seen, 100)
    assert (begun.at, ended.at) == (2, 5)


def test_a_part_without_a_middle_counts_as_a_whole() -> None:
    seen = [(done, Moment(0.0, at=at)) for at, done in enumerate([0, 0, 100])]
    begun, ended = _at_work(seen, 100)
    assert (begun.at, ended.at) == (0, 2)


def test_percentiles_are_times_that_were_met() -> None:
    times = [float(number) for number in range(100, 0, -1)]
    assert (at_percent(times, 50), at_percent(times, 99)) == (51.0, 100.0)
    assert at_percent([7.0], 99) == 7.0
