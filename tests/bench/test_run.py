"""A bench in tiny form on a real Kafka: what it reports, and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from flyback import topics
from flyback.bench import clients, processes
from flyback.bench import ground as grounds
from flyback.bench.ground import ground, installed
from flyback.bench.measure import PREFIX, Plan, Sent
from flyback.bench.run import run
from flyback.cli.bench import _show
from flyback.errors import BrokerError, ConfigurationError
from flyback.landing import Stalled
from flyback.local import process
from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess
from flyback.settings import Settings, load
from flyback.stack import ProcessEnded, Supervised
from flyback.streams.topology import Topology

TINY = Plan(seconds=2, event_bytes=500, events=1_000)


def topics_of(bootstrap: str, prefix: str) -> list[str]:
    there = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics
    return [name for name in there if name.startswith(prefix)]


def unheard(step: str, done: int, total: int) -> None:
    """Nobody looks."""


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    """Of somebody whose topics are not installed."""
    return load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        session_timeout="6s",
        transaction_timeout="6s",
        commit_interval="300ms",
    )


def test_everything_sent_is_joined_and_lands_and_nothing_stays(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = []

    def progress(step: str, done: int, total: int) -> None:
        finished.extend([step] if done >= total else [])

    report = run(settings, TINY, tmp_path, progress)
    parts = report.parts
    assert list(parts) == ["produce", "sdk", "consume", "worker", "sink"]
    assert parts["produce"].events == parts["sdk"].events == TINY.events
    before_the_steady_load = report.sent.events - report.latency.events
    assert before_the_steady_load >= parts["produce"].events + parts["sdk"].events
    assert parts["consume"].events == before_the_steady_load
    corrections = int(report.latency.details["corrections"])
    assert 0 < corrections <= report.latency.events / 10
    assert report.sent.corrections == corrections + TINY.events // 10
    # a worker and a sink that took less, or other things, than was sent would have raised
    assert 0 < parts["worker"].events <= before_the_steady_load
    assert parts["sink"].events >= report.sent.events / 2
    assert all(part.events_per_second > 0 for part in parts.values())
    assert list(dict.fromkeys(finished)) == [
        "create", "produce", "sdk", "consume", "worker", "latency", "sink", "delete",
    ]  # fmt: skip

    assert topics_of(settings.bootstrap_servers, TINY.topic_prefix) == []
    assert list(tmp_path.iterdir()) == []
    assert not [child for child in process.running() if child.name in ("the worker", "the sink")]

    _show(report)
    said = capsys.readouterr()
    assert f"{report.verdict.narrowest}  <- narrowest" in said.out
    assert f"with {settings.partitions} partitions at most {settings.partitions} workers" in said.out
    assert "only roughly" in said.err


def test_a_worker_that_fails_leaves_its_log_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    too_long = settings.model_copy(update={"transaction_timeout": 1_000 * settings.transaction_timeout})
    plan = Plan(seconds=1, event_bytes=500, events=100)
    with pytest.raises(ProcessEnded, match="the worker ended with exit code 1: cannot start transactions"):
        run(too_long, plan, tmp_path, unheard)
    assert topics_of(settings.bootstrap_servers, plan.topic_prefix) == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["worker.log"]


def test_a_worker_that_stands_still_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    still = Supervised("worker", tmp_path / "log", {})
    still._child = ChildProcess("the worker", ["sleep", "60"], tmp_path / "log")
    try:
        with pytest.raises(Stalled, match=f"has taken 0 of 7 messages.*see {tmp_path}/log"):
            processes._drained(still, "http://127.0.0.1:1", lambda moment: 0, 7, unheard)
    finally:
        still.stop()


def test_events_that_are_not_in_the_topics_are_missed(settings: Settings, tmp_path: Path) -> None:
    missing = pytest.raises(BrokerError, match="5 events were acknowledged, but the topics hold 0")
    with missing, ground(settings, TINY, tmp_path) as place:
        clients.consume(place.settings, TINY, Sent(predictions=5), unheard)


def test_topics_that_cannot_be_deleted_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grounds, "_SECONDS", 0.5)
    with pytest.raises(BrokerError, match=r"no Kafka answers.*\n.*--delete --topic 'bench-x\\\..\*'"):
        grounds.delete_topics(load(bootstrap_servers="127.0.0.1:1", topic_prefix=f"{PREFIX}x."))


def test_the_topics_are_like_those_that_are_installed(settings: Settings) -> None:
    assert installed(settings, None).partitions == settings.partitions
    topics.create(settings.model_copy(update={"partitions": 3}))
    assert installed(settings, None).partitions == 3
    assert installed(settings, 5).partitions == 5


def test_an_interrupt_while_it_cleans_up_does_not_stop_that(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, interrupts = grounds.delete_topics, [KeyboardInterrupt()]

    def interrupted(found: Settings) -> None:
        if interrupts:
            raise interrupts.pop()
        delete(found)

    monkeypatch.setattr(grounds, "delete_topics", interrupted)
    with pytest.raises(KeyboardInterrupt), ground(settings, TINY, tmp_path) as place:
        assert set(topics_of(settings.bootstrap_servers, TINY.topic_prefix)) == set(Topology(place.settings).names)
    assert topics_of(settings.bootstrap_servers, TINY.topic_prefix) == []


def test_no_registry_and_no_file_of_settings_reaches_its_processes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SCHEMA_REGISTRY_URL=http://127.0.0.1:1\n", encoding="utf-8")
    given = load(bootstrap_servers=settings.bootstrap_servers, ssl_ca_location="ca.pem")
    assert given.registry_url
    with ground(given, TINY, tmp_path) as place:
        assert place.settings.registry_url is None
        assert place.settings.ssl_ca_location == tmp_path / "ca.pem"
        (data,) = tmp_path.glob("flyback-bench-*/data")
        monkeypatch.chdir(data)
        assert load().registry_url is None


def test_a_folder_that_is_missing_or_too_small_is_told_before_anything_is_made(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="nowhere is no folder"), ground(settings, TINY, tmp_path / "nowhere"):
        pass
    huge = Plan(events=10**15)
    with pytest.raises(ConfigurationError, match="MB free"), ground(settings, huge, tmp_path):
        pass
    assert topics_of(settings.bootstrap_servers, huge.topic_prefix) == []
    assert list(tmp_path.iterdir()) == []


def test_rights_that_are_missing_are_named_before_anything_is_made(
    start_kafka: Callable[..., KafkaBroker], tmp_path: Path
) -> None:
    broker = start_kafka(
        sasl_scram=("ann", "a-password"),
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    inside = AdminClient({"bootstrap.servers": f"127.0.0.1:{broker._internal_ports[0]}", "log_level": 0})
    settings = load(
        bootstrap_servers=broker.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_username="ann",
        sasl_password="a-password",
    )

    def refusal() -> str:
        with pytest.raises(BrokerError) as refused, ground(settings, TINY, tmp_path):
            pass
        return str(refused.value)

    def allow(*operations: AclOperation) -> None:
        prefixed: Any = [ResourceType.TOPIC, PREFIX, ResourcePatternType.PREFIXED, "User:ann", "*"]
        rules = [AclBinding(*prefixed, operation, AclPermissionType.ALLOW) for operation in operations]
        for made in inside.create_acls(rules).values():
            made.result(10)

    allow(AclOperation.CREATE)
    assert "cannot delete topics" in (said := refusal())
    assert "needs the rights (ACLs) to Create, Delete" in said
    assert f"with the prefix `{PREFIX}`" in said
    allow(AclOperation.DELETE, AclOperation.DESCRIBE_CONFIGS)
    with pytest.raises(BrokerError, match=r"(?i)authorization failed.*; a bench needs the rights"):
        run(settings, TINY, tmp_path, unheard)
    with ground(settings, TINY, tmp_path):
        assert [name for name in inside.list_topics(timeout=10).topics if name.startswith(PREFIX)]
    assert not [name for name in inside.list_topics(timeout=10).topics if name.startswith(PREFIX)]
