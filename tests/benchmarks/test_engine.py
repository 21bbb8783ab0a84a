"""The engine's benchmark in tiny form: every contender does its work, and wrong work is noticed. No figures."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import contest, engine
from benchmarks.contest import Ground, Run, Void
from benchmarks.engine import ENTRANTS, Entrant, Field
from benchmarks.peers.environments import CACHE
from benchmarks.workload import bulk_producer
from flyback import history
from flyback.settings import Settings
from flyback.streams.topology import Kind, Topology
from tests import brokers
from tests.conftest import ENVIRONMENT

# its environment takes half a minute to install: outside CI only where the benchmark has made it before
QUIXSTREAMS_IS_THERE = ENVIRONMENT.get("CI") == "true" or (CACHE / "quixstreams" / "installed.txt").exists()
NOTHING = Entrant(lambda: [sys.executable, "-c", "pass"], engine.check_pairs)


def run(name: str, entrant: Entrant, field: Field, folder: Path) -> Run:
    contender = engine.contender(name, field.events, entrant.command(), entrant, field)
    [found] = contest.hold("test", [contender], 1, Ground(field.bootstrap, folder))
    return found


@pytest.fixture
def settings(field: Field, tmp_path: Path) -> Settings:
    """Over the filled topics, with nothing derived yet."""
    found = field.job().settings(tmp_path)
    engine.renew(found)
    return found


def test_each_contender_has_a_small_and_a_large_size(kafka_bootstrap: str, tmp_path: Path) -> None:
    given = argparse.Namespace(events=400, runs=1, only=["raw-consume"])
    small, large = engine.measure(Ground(kafka_bootstrap, tmp_path), given)
    assert (small.size, large.size) == (100, 400)
    assert 500 <= small.events < 1_000 < 2_000 <= large.events


@pytest.mark.parametrize("name", ["raw-consume", "raw-produce"])
def test_the_limits_read_and_write_everything(name: str, field: Field, tmp_path: Path) -> None:
    assert run(name, ENTRANTS[name], field, tmp_path).events == 5 * field.events


@pytest.mark.parametrize("name", ["flyback", "faust-tables"])
def test_each_pair_is_written_once(name: str, field: Field, tmp_path: Path) -> None:
    found = run(name, ENTRANTS[name], field, tmp_path).detail
    assert (found["derived"], found["again"]) == (len(field.pairs), 0)


@pytest.mark.skipif(
    not QUIXSTREAMS_IS_THERE, reason="`python -m benchmarks.engine --only quixstreams` makes its environment"
)
def test_quixstreams_writes_each_pair_once(field: Field, tmp_path: Path) -> None:
    found = run("quixstreams", ENTRANTS["quixstreams"], field, tmp_path).detail
    assert (found["derived"], found["again"]) == (len(field.pairs), 0)


def test_kafka_streams_writes_each_pair_and_its_processor_no_copies(field: Field, tmp_path: Path) -> None:
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        brokers.not_available(ENVIRONMENT, "Kafka Streams needs Maven and a JDK")
    for name in ("kafka-streams-dsl", "kafka-streams-processor"):
        found = run(name, ENTRANTS[name], field, tmp_path / name).detail
        assert found["derived"] - found["again"] == len(field.pairs)


def test_a_contender_that_wrote_nothing_voids_the_contest(field: Field, tmp_path: Path) -> None:
    with pytest.raises(Void, match=f"{len(field.pairs)} of {len(field.pairs)} pairs are missing"):
        run("nothing", NOTHING, field, tmp_path)


def test_what_a_run_has_written_is_gone_in_the_next(settings: Settings, field: Field) -> None:
    topology = Topology(settings)
    producer = bulk_producer(settings)
    producer.produce(topology.topic_of("Example"), b"of another run")
    producer.flush(30)
    engine.renew(settings)
    assert list(history.read(settings, topology.of(Kind.DERIVED))) == []
    assert sum(1 for _ in history.read(settings, topology.raw)) == field.events


def test_counts_that_lack_a_prediction_are_wrong(settings: Settings, field: Field, tmp_path: Path) -> None:
    with pytest.raises(Void, match=r"counted: \(0, 0\), not"):
        engine.check_flyback(field, settings, tmp_path)


def test_a_dead_letter_is_wrong(settings: Settings, field: Field, tmp_path: Path) -> None:
    producer = bulk_producer(settings)
    producer.produce(Topology(settings).of(Kind.DEAD_LETTERS)[0], b"refused")
    producer.flush(30)
    with pytest.raises(Void, match="1 events were dead-lettered"):
        engine.check_flyback(field, settings, tmp_path)


def test_reading_or_writing_less_than_everything_is_wrong(settings: Settings, field: Field, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(json.dumps({"events": 5 * field.events, "bytes": 5 * field.bytes - 1}))
    with pytest.raises(Void, match=rf"read .*, not .*{5 * field.bytes}"):
        engine.check_consumed(field, settings, tmp_path)
    with pytest.raises(Void, match="0 events were produced"):
        engine.check_produced(field, settings, tmp_path)
