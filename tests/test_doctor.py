"""`flyback doctor` on real Kafka: each thing that can be wrong is found, with what mends it, and nothing is changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, BrokerMetadata, ClusterMetadata, NewPartitions
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, SchemaRegistryClient, ServerConfig

from flyback import doctor, topics
from flyback.doctor import brokers, lake, machine, registry, state
from flyback.doctor import topics as doctor_topics
from flyback.doctor.brokers import Kafka
from flyback.doctor.check import Check
from flyback.landing import wait_until_landed
from flyback.local.kafka import KafkaBroker
from flyback.local.process import free_port
from flyback.schemas.catalog import open_catalog
from flyback.settings import Settings, load
from flyback.streams.clients import Cluster
from flyback.streams.state import StateFolder
from flyback.streams.topology import Topology
from tests.cli.test_topics import alter
from tests.sinks.events import prediction
from tests.sinks.kafka import running as sinking
from tests.sinks.lakes import HandMade
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import a_correction, a_prediction
from tests.waiting import eventually

SECONDS = 60.0


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Of an installation whose topics are made."""
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=2,
        session_timeout="6s",
        transaction_timeout="6s",
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
        commit_interval="200ms",
        maintenance_interval="0s",
    )
    topics.create(found)
    return found


def examined(settings: Settings) -> dict[str, Check]:
    found = list(doctor.examine(settings))
    names = [check.name for check in found]
    assert len(set(names)) == len(names), "a name is a check"
    assert all(check.found for check in found)
    assert all(check.mend for check in found if check.verdict in ("warning", "failed")), "what is wrong can be mended"
    return {check.name: check for check in found}


def verdicts(found: dict[str, Check], *but: str) -> set[str]:
    return {check.verdict for name, check in found.items() if name not in but}


@contextmanager
def worked(settings: Settings) -> Iterator[OnKafka]:
    """A worker runs, and has processed a pair."""
    kafka = OnKafka(settings)
    with running(settings):
        for message in (a_prediction(), a_correction()):
            kafka.start_sending(message)
        kafka.flush()
        eventually(kafka.is_processed, "it is processed", SECONDS)
        yield kafka


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_wrong_with_a_new_installation(settings: Settings, tmp_path: Path) -> None:
    found = examined(settings)
    assert verdicts(found, "replication", "transactions") <= {"ok", "skipped"}, found
    assert found["topics"].found == f"all {len(Topology(settings).names)} under the prefix {settings.topic_prefix}"
    assert found["retention"].found.startswith("raw events stay for three join windows (90 days)")
    assert found["offsets"].found == f"group {settings.group} has not begun yet"
    assert (found["clock"].verdict, found["registry"].verdict) == ("skipped", "skipped")
    assert found["replication"].verdict == "warning"
    assert "replication factor 1" in found["replication"].found
    assert list(tmp_path.iterdir()) == [], "looking makes no folder"


def test_nothing_is_wrong_with_one_that_works_and_nothing_is_changed(settings: Settings, tmp_path: Path) -> None:
    with worked(settings) as kafka, sinking(settings, Topology(settings)):
        wait_until_landed(settings, lambda *_: None, lambda: None)
        beside = examined(settings)
        assert kafka.is_processed()
    assert verdicts(beside, "replication", "transactions") <= {"ok", "skipped"}, beside
    assert beside["state"].verdict == "skipped"
    assert beside["state folder"].found.endswith(f"(process {os.getpid()})")
    before = files(tmp_path)
    after = examined(settings)
    assert files(tmp_path) == before
    assert verdicts(after, "replication", "transactions") <= {"ok", "skipped"}, after
    assert after["state"].found == "of 2 partitions, all of this Kafka"
    assert after["lake"].found.endswith("of them compared: of this Kafka")
    assert after["offsets"].found.startswith(f"group {settings.group} has committed 6 of 6 offsets")
    assert after["clock"].verdict == "ok"


def test_a_broker_that_is_down_is_told_and_the_rest_is_checked_all_the_same(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    found = examined(load(bootstrap_servers=address, state_dir=tmp_path / "state", lake=str(tmp_path / "lake")))
    assert found["broker"].verdict == "failed"
    assert address in found["broker"].found
    assert "KAFKA_BOOTSTRAP_SERVERS" in str(found["broker"].mend)
    assert {found[name].verdict for name in ("topics", "offsets", "clock", "state")} == {"skipped"}
    assert {found[name].verdict for name in ("state folder", "lake", "open files")} == {"ok"}


def test_security_settings_that_no_client_can_use_are_told(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    check, kafka = brokers.connect(load(security_protocol="SSL", ssl_ca_location=nothing))
    assert kafka is None
    assert check.verdict == "failed"
    assert "ssl.ca.location failed" in check.found
    assert "KAFKA_SSL_CA_LOCATION" in str(check.mend)


def test_brokers_whose_settings_do_not_fit_ours_are_told(start_kafka: Callable[..., KafkaBroker]) -> None:
    broker = start_kafka(
        properties={
            "group.min.session.timeout.ms": "30000",
            "transaction.max.timeout.ms": "5000",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "10000",
            "socket.request.max.bytes": "1000000",
            "auto.create.topics.enable": "true",
        }
    )
    settings = load(bootstrap_servers=broker.bootstrap)
    _, kafka = brokers.connect(settings)
    assert kafka is not None
    found = {check.name: check for check in brokers.settings_fit(settings, kafka)}
    assert {name: check.verdict for name, check in found.items()} == {
        "transactions": "failed",
        "sessions": "failed",
        "request size": "failed",
        "new topics": "warning",
        "internal topics": "ok",
    }
    assert "wait up to 20000 ms" in found["transactions"].found
    assert "FLYBACK_TRANSACTION_TIMEOUT=5000ms" in str(found["transactions"].mend)
    assert "FLYBACK_SESSION_TIMEOUT=30000ms" in str(found["sessions"].mend)
    assert "socket.request.max.bytes=2196608" in str(found["request size"].mend)


def test_settings_that_the_broker_does_not_tell_are_skipped(settings: Settings) -> None:
    _, kafka = brokers.connect(settings)
    assert kafka is not None
    metadata = ClusterMetadata()
    metadata.brokers = {12_345: BrokerMetadata()}  # no such broker: it cannot be asked
    found = list(brokers.settings_fit(settings, Kafka(kafka.admin, metadata)))
    assert {check.verdict for check in found} == {"skipped"}
    assert len(found) == 5


def test_internal_topics_on_one_of_three_brokers_are_told(settings: Settings) -> None:
    metadata = ClusterMetadata()
    metadata.brokers = {number: BrokerMetadata() for number in (1, 2, 3)}
    kafka: Any = Kafka(AdminClient(settings.kafka()), metadata)
    options = {"offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "3"}
    (check,) = brokers._internal_topics("internal topics", settings, kafka, "1", options)
    assert "offsets.topic.replication.factor=1 though there are 3 brokers" in check.found


@pytest.mark.parametrize(
    ("topic", "option", "value", "name", "verdict"),
    [
        ("predictions.v1", "message.timestamp.type", "CreateTime", "timestamps", "failed"),
        ("corrections.v1", "retention.ms", "3600000", "retention", "failed"),
        ("grades.v1", "retention.bytes", "1000000", "retention", "failed"),
        ("grades.v1", "cleanup.policy", "compact", "cleanup", "failed"),
        ("examples.v1", "max.message.bytes", "1000", "message sizes", "failed"),
        ("corrections.v1.dlq", "max.message.bytes", "1000", "message sizes", "failed"),
        ("examples.v1", "retention.ms", "3600000", "retention", "warning"),
    ],
)
def test_a_topic_that_is_configured_otherwise_is_told_with_the_command_that_mends_it(
    settings: Settings, topic: str, option: str, value: str, name: str, verdict: str
) -> None:
    alter(settings, settings.topic_prefix + topic, option, value)
    eventually(lambda: topics.check(settings), "the broker shows the change")
    _, kafka = brokers.connect(settings)
    assert kafka is not None
    found = {check.name: check for check in doctor_topics.as_the_topology_says(settings, kafka)}
    assert found[name].verdict == verdict
    assert found[name].found.startswith(f"{settings.topic_prefix}{topic}: {option} is {value}")
    assert "kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics" in str(found[name].mend)
    assert {check.verdict for other, check in found.items() if other != name} == {"ok"}


def test_missing_topics_are_told_in_one_line(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
    )
    found = examined(settings)
    assert found["topics"].verdict == "failed"
    assert found["topics"].found.count("\n") == 0
    assert found["topics"].mend == "type `flyback topics create`"
    assert {found[name].verdict for name in ("partitions", "retention", "replication", "offsets")} == {"skipped"}


def test_different_partition_counts_are_told(settings: Settings) -> None:
    name = settings.topic_prefix + "grades.v1"
    admin = AdminClient(settings.kafka())
    admin.create_partitions([NewPartitions(name, 3)])[name].result(10)
    eventually(lambda: topics.check(settings), "the broker shows the new partition")
    found = examined(settings)
    assert found["partitions"].verdict == "failed"
    assert "has 2 partitions, another raw topic has 3" in found["partitions"].found


@pytest.mark.parametrize(
    ("leader", "replicas", "in_sync", "least", "problem", "fatal"),
    [
        (-1, 3, 2, 2, "no leader", True),
        (1, 3, 1, 2, "1 replicas in sync, min.insync.replicas is 2", True),
        (1, 3, 2, 2, "2 of 3 replicas in sync", False),
        (1, 1, 1, 1, "replication factor 1", False),
        (1, 3, 3, 1, "min.insync.replicas is 1", False),
        (1, 3, 3, 3, "min.insync.replicas is 3 of 3", False),
    ],
)
def test_too_few_copies_are_told(
    leader: int, replicas: int, in_sync: int, least: int, problem: str, fatal: bool
) -> None:
    found = list(doctor_topics._of(leader, replicas, in_sync, least))
    assert [one[2] for one in found if problem in one[0]] == [fatal]


def test_three_copies_of_which_two_must_be_in_sync_are_fine() -> None:
    assert list(doctor_topics._of(1, 3, 3, 2)) == []


def test_the_offsets_of_a_group_that_retention_overtook_are_told(settings: Settings) -> None:
    with worked(settings) as kafka:
        pass
    topic, partition, _ = kafka.send(a_prediction(prediction_id="q"))
    offset = kafka.send(a_prediction(prediction_id="r"))[2]
    place = TopicPartition(topic, partition, offset)
    admin = AdminClient(settings.kafka())
    admin.delete_records([place])[place].result(30)
    found = examined(settings)["offsets"]
    assert found.verdict == "failed"
    assert f"{topic}/{partition}: the group's offset 1 is below the log start 2" in found.found


def test_a_group_without_offsets_is_told_where_events_were_derived(settings: Settings) -> None:
    with worked(settings):
        pass
    found = examined(settings.model_copy(update={"group": "another"}))["offsets"]
    assert found.verdict == "warning"
    assert "group another has no committed offsets, though the derived topics hold events" in found.found


def restart_with(settings: Settings, **changed: Any) -> dict[str, Check]:
    with worked(settings):
        pass
    return examined(settings.model_copy(update=changed))


def test_the_state_of_another_window_is_told(settings: Settings) -> None:
    found = restart_with(settings, join_window=settings.join_window * 0.9)["state"]
    assert found.verdict == "warning"
    assert "built with FLYBACK_JOIN_WINDOW=30 days, 0:00:00, which is now 27 days, 0:00:00" in found.found


def test_state_and_lake_of_other_topics_are_told(settings: Settings) -> None:
    with worked(settings), sinking(settings, Topology(settings)):
        wait_until_landed(settings, lambda *_: None, lambda: None)
    admin = AdminClient(settings.kafka())
    for gone in admin.delete_topics(Topology(settings).names).values():
        gone.result(30)
    eventually(lambda: not any(topic.partitions for topic in topics.listing(settings)), "the topics are gone")
    topics.create(settings)
    found = examined(settings)
    assert found["state"].verdict == "warning"
    assert "of other raw topics: these were deleted and made again" in found["state"].found
    assert found["lake"].verdict == "failed"
    assert "was deleted and made again" in found["lake"].found


def test_state_and_lake_of_another_cluster_are_told(
    settings: Settings, start_kafka: Callable[..., KafkaBroker]
) -> None:
    with worked(settings), sinking(settings, Topology(settings)):
        wait_until_landed(settings, lambda *_: None, lambda: None)
    other = settings.model_copy(update={"bootstrap_servers": start_kafka().bootstrap})
    topics.create(other)
    found = examined(other)
    assert "of cluster " in found["state"].found
    assert "this is cluster " in found["lake"].found


def test_the_state_of_more_partitions_is_refused(settings: Settings) -> None:
    with worked(settings):
        pass
    admin = AdminClient(settings.kafka())
    for name in Topology(settings).names:
        if Topology(settings).partitions(name) > 1:
            admin.create_partitions([NewPartitions(name, 3)])[name].result(10)
    eventually(lambda: all(t.partitions in (1, 3) for t in topics.listing(settings)), "the partitions are there")
    found = examined(settings)["state"]
    assert found.verdict == "failed"
    assert "the raw topics have 3 partitions, it was built over 2" in found.found


def test_a_state_ahead_of_its_group_is_told(settings: Settings) -> None:
    found = restart_with(settings, group="another")["state"]
    assert found.verdict == "failed"
    assert "the state is at offset 1, the group only at 0" in found.found


def test_a_broken_state_is_told(settings: Settings) -> None:
    with worked(settings):
        pass
    (settings.state_dir / "partition-0" / "CURRENT").write_text("nothing\n")
    found = examined(settings)["state"]
    assert found.verdict == "warning"
    assert "partition-0 cannot be read" in found.found


def test_who_holds_a_state_folder_is_known_while_it_is_held(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert state.held_by(tmp_path / "lock") == str(os.getpid())
    folder.close()
    assert state.held_by(tmp_path / "lock") is None
    assert state.held_by(tmp_path / "nothing") is None


def test_folders_that_cannot_be_written_are_told(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    settings = load(
        bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, state_dir=file / "state", lake=str(file)
    )
    found = examined(settings)
    assert (found["state folder"].verdict, found["lake access"].verdict) == ("failed", "failed")
    assert found["state folder"].found == f"this user may not write to {file}"
    assert found["lake access"].found == f"{file} is no folder"


def test_a_folder_on_a_read_only_disk_is_told() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    read_only = [words[1] for words in mounts if "ro" in words[3].split(",") and Path(words[1]).is_dir()]
    if not read_only:
        pytest.skip("no disk is mounted read-only here")
    assert machine.unwritable(Path(read_only[0]) / "new") == f"{read_only[0]} is on a disk that is mounted read-only"


@pytest.mark.parametrize(("free", "verdict"), [(1e9, "warning"), (1e8, "failed"), (1e10, "ok")])
def test_a_disk_that_fills_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str
) -> None:
    actual = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: actual._replace(free=int(free)))
    found = machine.space("lake space", tmp_path / "not" / "yet", "FLYBACK_LAKE")
    assert found.verdict == verdict
    assert verdict == "ok" or "FLYBACK_LAKE" in str(found.mend)


def test_a_lake_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    log = tmp_path / "predictions" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("no JSON")
    found = {check.name: check for check in lake.examine(load(lake=str(tmp_path)), None)}
    assert found["lake"].verdict == "failed"
    assert str(tmp_path / "predictions") in found["lake"].found


def test_a_lake_of_many_small_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "_MANY", 2)
    made = HandMade(tmp_path / "lake")
    for number in range(3):
        made.add("predictions", prediction(f"t{number}"))
    names = Topology(load()).names
    cluster = Cluster("cluster", dict.fromkeys(names, "topic"), dict.fromkeys(names, 4))
    found = {check.name: check for check in lake.examine(load(lake=made.path), cluster)}
    assert found["lake"].verdict == "ok"
    assert found["lake files"].verdict == "warning"
    assert "predictions 3" in found["lake files"].found
    assert "flyback sink compact" in str(found["lake files"].mend)


@pytest.mark.parametrize(
    ("ahead", "verdict", "says"),
    [(0.0, "ok", "no further ahead"), (-30.0, "warning", "in the future"), (3600.0, "skipped", "too long ago")],
)
def test_the_clock_is_compared_with_the_newest_event(settings: Settings, ahead: float, verdict: str, says: str) -> None:
    """`ahead`: how far this machine's clock is ahead of the broker's, in seconds."""
    kafka = OnKafka(settings)
    kafka.send(a_prediction())
    found = machine.clock(settings, now=time.time() + ahead)
    assert found.verdict == verdict
    assert says in found.found


@pytest.mark.parametrize(("limit", "verdict"), [(1024, "warning"), (65_536, "ok"), (-1, "ok")])
def test_a_low_limit_of_open_files_is_told(limit: int, verdict: str) -> None:
    assert machine.open_files(limit).verdict == verdict


def test_a_registry_that_is_down_is_told_without_its_password(kafka_bootstrap: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = load(
        bootstrap_servers=kafka_bootstrap,
        registry_url=f"http://user:secret@{address}",
        state_dir=tmp_path / "state",
        lake=str(tmp_path),
    )
    found = examined(settings)["registry"]
    assert found.verdict == "failed"
    assert f"http://{address} does not answer" in found.found
    assert "secret" not in found.found


def test_a_registry_address_that_is_none_is_told() -> None:
    (found,) = registry.examine(load(registry_url="localhost:8081"))
    assert found.verdict == "failed"
    assert "SCHEMA_REGISTRY_URL" in str(found.mend)


def test_the_registry_s_schemas_are_compared_with_ours(registry_url: str, topic_prefix: str) -> None:
    settings = load(registry_url=registry_url, topic_prefix=topic_prefix)
    missing = {check.name: check for check in registry.examine(settings)}
    assert missing["registry"].verdict == "ok"
    assert missing["schemas"].verdict == "warning"
    assert f"{topic_prefix}predictions.v1-value" in missing["schemas"].found

    catalog, topology = open_catalog(settings), Topology(settings)
    for name in topology.names:
        if record := topology[name].record:
            catalog.id_for(record, name)
    assert {check.name: check.verdict for check in registry.examine(settings)} == {"registry": "ok", "schemas": "ok"}

    client = SchemaRegistryClient({"url": registry_url})
    client.set_config(f"{topic_prefix}grades.v1-value", ServerConfig(ConfigCompatibilityLevel.BACKWARD))
    (_, loose) = registry.examine(settings)
    assert loose.verdict == "warning"
    assert f"{topic_prefix}grades.v1-value: compatibility is BACKWARD" in loose.found
    assert f"{registry_url}/config/{topic_prefix}grades.v1-value" in str(loose.mend)


def test_somebody_else_s_schema_in_the_registry_is_told(registry_url: str, topic_prefix: str) -> None:
    client = SchemaRegistryClient({"url": registry_url})
    other = '{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "int"}]}'
    client.register_schema(f"{topic_prefix}predictions.v1-value", Schema(other, "AVRO"))
    (_, found) = registry.examine(load(registry_url=registry_url, topic_prefix=topic_prefix))
    assert found.verdict == "failed"
    assert "its latest schema is not compatible with our Prediction" in found.found


def test_the_embedded_broker_can_be_examined(embedded_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=embedded_bootstrap,
        topic_prefix=topic_prefix,
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
    )
    topics.create(settings)
    found = examined(settings)
    assert "failed" not in verdicts(found), found
