"""`flyback doctor` as a whole: what is well is said to be, and nothing is changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyback import topics
from flyback.doctor import brokers
from flyback.doctor.check import Check
from flyback.landing import wait_until_landed
from flyback.local.process import free_port
from flyback.settings import Settings, load
from flyback.streams.topology import Topology
from tests.doctor.examined import examined
from tests.sinks.kafka import running as sinking
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import a_correction, a_prediction
from tests.waiting import eventually

# of a Kafka with one broker and Kafka's own settings
AS_MADE = ("replication", "transactions")


def verdicts(found: dict[str, Check]) -> set[str]:
    return {check.verdict for name, check in found.items() if name not in AS_MADE}


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_wrong_with_a_new_installation(settings: Settings, tmp_path: Path) -> None:
    found = examined(settings)
    assert verdicts(found) <= {"ok", "skipped"}, found
    assert found["topics"].found == f"all {len(Topology(settings).names)} under the prefix {settings.topic_prefix}"
    assert found["retention"].found.startswith("raw events stay for three join windows (90 days)")
    assert found["offsets"].found == f"group {settings.group} has not begun yet"
    assert (found["clock"].verdict, found["registry"].verdict) == ("skipped", "skipped")
    assert list(tmp_path.iterdir()) == [], "looking makes no folder"


def test_nothing_is_wrong_with_one_that_works_and_nothing_is_changed(settings: Settings, tmp_path: Path) -> None:
    kafka = OnKafka(settings)
    with running(settings), sinking(settings, Topology(settings)):
        for message in (a_prediction(), a_correction()):
            kafka.start_sending(message)
        kafka.flush()
        eventually(kafka.is_processed, "it is processed", 60)
        wait_until_landed(settings, lambda *_: None, lambda: None)
        beside = examined(settings)
        assert kafka.is_processed()
    assert verdicts(beside) <= {"ok", "skipped"}, beside
    assert beside["state"].verdict == "skipped"
    assert beside["state folder"].found.endswith(f"(process {os.getpid()})")
    before = files(tmp_path)
    after = examined(settings)
    assert files(tmp_path) == before
    assert verdicts(after) <= {"ok", "skipped"}, after
    assert after["state"].found == "of 2 partitions, all of this Kafka"
    assert after["lake"].found.endswith("of them compared: of this Kafka")
    assert after["offsets"].found.startswith(f"group {settings.group} has committed 6 of 6 offsets")
    assert after["clock"].verdict == "ok"


def test_a_broker_that_is_down_is_told_and_the_rest_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "SECONDS", 0.5)
    address = f"127.0.0.1:{free_port()}"
    found = examined(load(bootstrap_servers=address, state_dir=tmp_path / "state", lake=str(tmp_path / "lake")))
    assert found["broker"].verdict == "failed"
    assert address in found["broker"].found
    assert "KAFKA_BOOTSTRAP_SERVERS" in str(found["broker"].mend)
    assert {found[name].verdict for name in ("topics", "offsets", "clock", "state")} == {"skipped"}
    assert {found[name].verdict for name in ("state folder", "lake", "open files")} == {"ok"}


def test_the_embedded_broker_can_be_examined(embedded_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=embedded_bootstrap,
        topic_prefix=topic_prefix,
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
    )
    topics.create(settings)
    assert "failed" not in {check.verdict for check in examined(settings).values()}
