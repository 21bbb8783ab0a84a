"""What is played, in which order, and what becomes of a round: over a real Kafka with real processes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer

from flyback import history
from flyback.streams.topology import Topology
from tests.chaos import rounds
from tests.chaos.disks import CannotMount
from tests.chaos.fault import Fault
from tests.chaos.places import PLACES, Place
from tests.chaos.report import table
from tests.chaos.rounds import MIXED, Round, all_faults, plan, run
from tests.chaos.site import INTERRUPTED, Site
from tests.processes import running_in


def nothing(site: Site, rng: random.Random) -> None:
    """No fault at all."""


def double_a_pair(site: Site, rng: random.Random) -> None:
    """Writes one derived event once more, as a broken engine would."""
    site.load.pause()
    site.until_landed()
    topic = Topology(site.settings).topic_of("Example")
    first = next(history.read(site.settings, [topic]))
    producer = Producer(site.settings.kafka())
    producer.produce(topic, first.value(), first.key(), partition=first.partition() or 0)
    producer.flush(30)
    site.load.resume()


def stop_for_good(site: Site, rng: random.Random) -> None:
    """Ends as a refusal to start does."""
    worker = next(iter(site.workers.values()))
    worker.held = True
    worker.stop()
    worker.start(FLYBACK_JOIN_WINDOW="no time")
    worker.held = False
    site.until_ready(worker)


def fault(name: str, times: tuple[int, int] = (1, 20), **given: object) -> Fault:
    return Fault(name, nothing, times, **given)  # type: ignore[arg-type]


@pytest.fixture
def on_this_kafka(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def here(folder: Path) -> Iterator[Place]:
        yield Place(kafka_bootstrap)

    monkeypatch.setitem(PLACES, "plain", here)


def test_every_fault_has_a_round_of_its_own_as_often_as_it_says_and_a_place_for_it() -> None:
    for soak in (False, True):
        played = {one.name: one.times for one in plan(all_faults(), soak)}
        assert played.pop(MIXED) > 0
        assert played == {f.name: f.times[soak] for f in all_faults() if f.times[soak]}
    assert {f.kind for f in all_faults()} <= PLACES.keys()


def test_the_mixed_round_has_those_faults_that_need_no_other_place_and_no_other_settings() -> None:
    faults = [
        fault("a"),
        fault("b"),
        fault("c", kind="cluster"),
        fault("d", mixed=False),
        fault("e", environment={"E": "1"}),
    ]
    mixed = plan(faults, True, events=100, kills=7)[0]
    assert (mixed.name, mixed.faults, mixed.events, mixed.kills) == (MIXED, tuple(faults[:2]), 100, 7)


def test_a_seed_gives_the_same_schedule_again_with_every_fault_before_any_comes_twice() -> None:
    one = Round("r", tuple(fault(name) for name in "abcd"), 9)
    first, second = ([f.name for f in islice(one.schedule(random.Random(3)), 8)] for _ in range(2))
    assert first == second
    assert sorted(first[:4]) == sorted(first[4:]) == [*"abcd"]


@pytest.mark.usefixtures("on_this_kafka")
def test_a_round_finds_nothing_where_nothing_is_wrong_and_what_is_doubled_in_the_real_topics(tmp_path: Path) -> None:
    said: list[str] = []
    planted = Fault("a pair doubled", double_a_pair, (1, 1), workers=1)
    played = [Round(f.name, (f,), 1) for f in (fault("nothing", workers=1), planted)]
    clean, doubled = run(played, 7, tmp_path, 2, said.append)
    assert not clean.failed, clean
    assert clean.times == 1 and clean.events > 0
    assert not (tmp_path / "nothing").exists()
    assert doubled.problem is None and (doubled.lost, doubled.wrong) == (0, 0)
    assert doubled.double >= 1 and "derived topics: there 2 times" in doubled.named[0]
    assert doubled.folder == tmp_path / "a-pair-doubled" and doubled.folder.is_dir()
    assert "worker-1" in doubled.logs
    assert any("nothing: nothing found after 1 times" in line for line in said)
    assert not running_in(doubled.folder / "site")


@pytest.mark.usefixtures("on_this_kafka")
def test_a_process_that_ends_as_no_supervisor_can_mend_fails_its_round(tmp_path: Path) -> None:
    refused = Fault("a setting that is none", stop_for_good, (1, 1), workers=1)
    [row] = run([Round(refused.name, (refused,), 1)], 7, tmp_path, 1, lambda _: None)
    assert row.failed and row.problem is not None
    assert "worker-1 ended with 2" in row.problem and "FLYBACK_JOIN_WINDOW" in row.problem


def test_a_place_that_cannot_be_made_fails_its_rounds_and_not_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def nowhere(folder: Path) -> Iterator[Place]:
        raise OSError("no room")
        yield

    monkeypatch.setitem(rounds.PLACES, "plain", nowhere)
    played = [Round(name, (fault(name),), 1) for name in "ab"]
    found = run(played, 7, tmp_path, 2, lambda _: None)
    assert [(row.fault, row.times, row.problem) for row in found] == [
        ("a", 0, "starting: OSError: no room"),
        ("b", 0, "starting: OSError: no room"),
    ]


@pytest.mark.parametrize(("ci", "failed"), [("", False), ("true", True)])
def test_a_place_that_this_machine_cannot_have_skips_its_round_and_says_so_but_fails_it_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, failed: bool
) -> None:
    @contextmanager
    def forbidden(folder: Path) -> Iterator[Place]:
        raise CannotMount("one has to be root")
        yield

    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(rounds.PLACES, "plain", forbidden)
    said: list[object] = []
    [row] = run([Round("a", (fault("a"),), 1)], 7, tmp_path, 1, said.append)
    assert row.failed is failed
    assert "one has to be root" in str(row.problem if failed else said[-1])
    assert "skipped" in table([row])


def test_once_interrupted_no_other_round_begins(tmp_path: Path) -> None:
    INTERRUPTED.set()
    try:
        [row] = run([Round("a", (fault("a"),), 1)], 7, tmp_path, 1, lambda _: None)
    finally:
        INTERRUPTED.clear()
    assert row.problem is not None and "interrupted" in row.problem
