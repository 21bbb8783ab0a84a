"""What `flyback status` knows, on real Kafka with a real engine and sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from flyback import endpoints, status, topics
from flyback.dashboards.endpoint import serve
from flyback.errors import BrokerError, ConfigurationError, TopicMismatch
from flyback.landing import wait_until_landed
from flyback.local.process import free_port
from flyback.settings import Settings, load
from flyback.sinks.tables import TABLES
from flyback.status import groups, lag
from flyback.status.lag import Lag, Total
from flyback.streams.engine import Engine
from flyback.streams.topology import Topology
from tests.sinks.kafka import running as sinking
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import POISON, a_correction, a_prediction
from tests.waiting import eventually

SECONDS = 60.0


@pytest.fixture
def settings(installation: Settings) -> Settings:
    """Of a site whose endpoints nobody serves."""
    return installation.model_copy(update={"worker_http_port": free_port(), "sink_http_port": free_port()})


@contextmanager
def a_worker(settings: Settings, **said: Any) -> Iterator[tuple[Engine, str]]:
    """A running engine and the address of its endpoint, which says `said` besides."""
    with (
        running(settings) as engine,
        serve(settings, 0, lambda: {**engine.status(), **said}) as endpoint,
    ):
        eventually(lambda: engine.status()["assigned"], "the worker has partitions", SECONDS)
        yield engine, f"127.0.0.1:{endpoint.port}"


@contextmanager
def a_sink(settings: Settings) -> Iterator[str]:
    """The address of a running sink's endpoint."""
    with (
        sinking(settings, Topology(settings)) as sink,
        serve(settings, 0, sink.status) as endpoint,
    ):
        yield f"127.0.0.1:{endpoint.port}"


def sent(settings: Settings, *messages: Any) -> OnKafka:
    kafka = OnKafka(settings)
    for message in messages:
        kafka.start_sending(message)
    kafka.flush()
    return kafka


def of(found: status.Status, topic: str) -> list[Lag]:
    return [one for partition in found.partitions for one in partition.lags if one.topic.endswith(topic)]


def test_where_everything_is_processed_and_landed_all_is_well(settings: Settings) -> None:
    sent(settings, *(a_prediction(f"t{i}") for i in range(20)), *(a_correction(f"t{i}") for i in range(20)))
    with a_worker(settings) as (engine, worker), a_sink(settings) as sink:
        wait_until_landed(settings, lambda *_: None, lambda: None)
        eventually(lambda: not status.examine(settings, [worker], [sink]).restoring, "all is live", SECONDS)
        found = status.examine(settings, [worker], [sink])
        worker_id = engine.status()["worker_id"]
    assert (found.verdict, found.problems, found.unknown) == ("well", [], [])
    assert found.joining == Total(0, True, None)
    assert found.landing == Total(0, True, None), "transaction markers are no events"
    assert [member.name for member in found.streams.members] == [worker_id]
    for partition in found.partitions:
        assert partition.worker == worker_id
        assert partition.live
        assert partition.state_bytes
        assert partition.last_commit == pytest.approx(found.at, abs=SECONDS)
    (lake,) = found.sinks
    assert (lake.lake, lake.source) == (settings.lake, sink)
    assert lake.last_commit == pytest.approx(found.at, abs=SECONDS)
    assert {one.topic for one in lake.lags} == {name for table in TABLES for name in table.topics(Topology(settings))}


def test_without_worker_and_sink_kafka_alone_tells_how_far_behind_they_are(settings: Settings) -> None:
    sent(settings, *(a_prediction("t", prediction_id=f"p{i}") for i in range(5)))
    found = status.examine(settings)
    assert found.verdict == "not well"
    assert found.problems == [f"no worker in group {settings.group}: start `flyback worker`"]
    assert [line.split(" does not answer")[0] for line in found.unknown] == [
        f"worker at 127.0.0.1:{settings.worker_http_port}",
        f"sink at 127.0.0.1:{settings.sink_http_port}",
    ]
    (late,) = [one for one in of(found, "predictions.v1") if one.events]
    assert (late.events, late.exact, late.next_offset, late.end_offset) == (5, True, None, 5)
    assert late.seconds == pytest.approx(0, abs=SECONDS)
    assert found.joining.events == found.landing.events == 5
    assert {(one.live, one.restored, one.state_bytes, one.worker) for one in found.partitions} == {(None,) * 4}
    assert found.sinks[0].source == "its tables"


def test_what_a_stopped_worker_committed_is_not_counted_again(settings: Settings) -> None:
    kafka = sent(settings, a_prediction())
    with a_worker(settings):
        eventually(kafka.is_processed, "it is processed", SECONDS)
    sent(settings, a_prediction(prediction_id="q"), a_correction())
    found = status.examine(settings)
    assert found.joining.events == 2
    (late,) = [one for one in of(found, "predictions.v1") if one.events]
    assert (late.events, late.next_offset, late.end_offset) == (1, 1, 2)
    assert any(partition.last_commit for partition in found.partitions)


def test_a_group_that_nobody_is_in_is_doubted_where_workers_of_another_one_committed(settings: Settings) -> None:
    kafka = sent(settings, a_prediction())
    with a_worker(settings):
        eventually(kafka.is_processed, "it is processed", SECONDS)
    found = status.examine(settings.model_copy(update={"group": "other"}))
    assert found.problems == [
        f"no worker in group other: the workers of these topics were in {settings.group}, is FLYBACK_GROUP right? Else "
        "start `flyback worker`"
    ]
    assert {partition.last_commit for partition in found.partitions} == {None}


def test_a_long_lag_is_told_by_offsets_and_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "_COUNTED", 10)
    sent(settings, *(a_prediction("t", prediction_id=f"p{i}") for i in range(25)))
    found = status.examine(settings)
    assert (found.joining.events, found.joining.exact) == (25, False)


def test_events_that_wait_for_long_are_behind(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LATE_SECONDS", -1.0)
    with a_worker(settings) as (_, worker), a_sink(settings) as sink:
        assert status.examine(settings, [worker], [sink]).verdict == "behind"


def test_events_that_retention_deleted_unread_are_a_problem(settings: Settings) -> None:
    kafka = sent(settings, a_prediction())
    with a_worker(settings):
        eventually(kafka.is_processed, "it is processed", SECONDS)
    topic, partition, _ = kafka.send(a_prediction(prediction_id="q"))
    offset = kafka.send(a_prediction(prediction_id="r"))[2]
    place = TopicPartition(topic, partition, offset)
    admin = AdminClient(settings.kafka())
    admin.delete_records([place])[place].result(30)
    found = status.examine(settings)
    (deleted,) = [line for line in found.problems if line.startswith(f"{topic}/{partition}: retention deleted")]
    assert f"1 events before group {settings.group} had them (next offset 1)" in deleted
    assert deleted.endswith("`flyback worker --accept-loss`")
    assert found.joining.events == 1


def test_dead_letters_are_counted_by_topic_and_reason(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = sent(settings, *(POISON[kind][1]("t") for kind in ("cut in its header", "cut in its body", "no key")))
    with a_worker(settings) as (_, worker):
        eventually(kafka.is_processed, "it is processed", SECONDS)
        found = status.examine(settings, [worker])
        monkeypatch.setattr(lag, "_COUNTED", 1)
        by_offsets = status.examine(settings, [worker])
    (letters,) = [topic for topic in found.dead_letters if topic.letters]
    assert letters.topic == settings.topic_prefix + "corrections.v1.dlq"
    assert (letters.letters, letters.exact) == (3, True)
    assert letters.reasons == {"truncated": 2, "missing_key": 1}
    (rough,) = [topic for topic in by_offsets.dead_letters if topic.letters]
    assert rough.letters >= 3
    assert not rough.exact


def test_partitions_are_told_by_the_worker_that_owns_them(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"state_dir": tmp_path / "other"})
    with a_worker(settings) as (_, one), a_worker(other) as (_, two):

        def shared() -> bool:
            found = status.examine(settings, [one, two])
            return len({p.worker for p in found.partitions}) == 2 and all(p.live for p in found.partitions)

        eventually(shared, "each worker has a partition", SECONDS)
        found = status.examine(settings, [one])
        assert len(found.streams.members) == 2
        assert sorted(str(partition.live) for partition in found.partitions) == ["None", "True"]


def test_a_partition_that_restores_shows_how_far_it_is(settings: Settings) -> None:
    said = {"partitions": {"0": {"live": False, "restored": 1200, "to_restore": 50_000, "state_bytes": 7}}}
    with a_worker(settings, **said) as (_, worker):
        found = status.examine(settings, [worker])
    (restoring,) = found.restoring
    assert (restoring.partition, restoring.restored, restoring.to_restore) == (0, 1200, 50_000)
    assert restoring.state_bytes == 7


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"ok": True, "waiting": "no registry"}, "waits: no registry"),
        ({"ok": False, "engine": "failed", "error": "disk full"}, "disk full"),
        ({"ok": False, "engine": "starting"}, "starting"),
    ],
)
def test_what_a_worker_complains_about_is_a_problem(settings: Settings, said: dict[str, Any], problem: str) -> None:
    health = {"worker_id": None, "assigned": [], **said}
    with serve(settings, 0, lambda: health) as endpoint:
        found = status.examine(settings, [f"127.0.0.1:{endpoint.port}"])
    assert [line for line in found.problems if line.endswith(problem) and str(endpoint.port) in line]


def test_a_sink_that_waits_is_a_problem(settings: Settings) -> None:
    health: dict[str, object] = {"ok": False, "lake": settings.lake, "waiting_for": "registry", "offsets": {}}
    with serve(settings, 0, lambda: health) as endpoint:
        found = status.examine(settings, sinks=[f"127.0.0.1:{endpoint.port}"])
    assert f"127.0.0.1:{endpoint.port} waits: registry" in found.problems


def a_sink_that_says(settings: Settings, **said: object) -> status.Status:
    health = {"ok": True, "lake": "its lake", "waiting_for": None, **said}
    with serve(settings, 0, lambda: health) as endpoint:
        return status.examine(settings, sinks=[f"127.0.0.1:{endpoint.port}"])


def test_a_sink_that_has_committed_nothing_yet_has_everything_before_it(settings: Settings) -> None:
    sent(settings, a_prediction())
    (lake,) = a_sink_that_says(settings, offsets={}).sinks
    assert (lake.lake, sum(one.events for one in lake.lags)) == ("its lake", 1)


def test_a_lake_that_was_asked_for_is_read_though_the_sink_fills_another(settings: Settings) -> None:
    health: dict[str, object] = {"ok": True, "lake": "another", "waiting_for": None, "offsets": {}}
    with serve(settings, 0, lambda: health) as endpoint:
        found = status.examine(settings, sinks=[f"127.0.0.1:{endpoint.port}"], read_lake=True)
    assert [(lake.lake, lake.source == "its tables") for lake in found.sinks] == [
        ("another", False),
        (settings.lake, True),
    ]


@pytest.mark.parametrize("said", [{"offsets": None}, {"offsets": {"t/0": 5}, "cluster_id": "another"}])
def test_a_sink_that_opens_its_tables_or_is_of_another_kafka_tells_nothing_of_ours(
    settings: Settings, said: dict[str, object]
) -> None:
    found = a_sink_that_says(settings, **said)
    assert [lake.source for lake in found.sinks] == ["its tables"]
    assert ["of another Kafka (cluster another, this is " in line for line in found.unknown] == (
        [False, True] if "cluster_id" in said else [False]
    )


def test_addresses_where_something_else_answers_are_told(settings: Settings) -> None:
    with ExitStack() as stack:
        stranger = stack.enter_context(serve(settings, 0, lambda: {"ok": True}))
        of_others = stack.enter_context(
            serve(settings, 0, lambda: {"ok": True, "worker_id": "worker-of-others", "assigned": [0]})
        )
        found = status.examine(settings, [f"127.0.0.1:{endpoint.port}" for endpoint in (stranger, of_others)])
    assert found.unknown[0].startswith(f"worker at 127.0.0.1:{stranger.port} is something else")
    assert found.unknown[1].startswith(f"worker at 127.0.0.1:{of_others.port} is no member of group {settings.group}")


@pytest.mark.parametrize("address", ["9464", "host", "http://host:1", ":9464"])
def test_what_is_no_address_is_refused(settings: Settings, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no address of an endpoint: give HOST:PORT"):
        status.examine(settings, [address])


def test_a_lake_that_cannot_be_read_leaves_only_that_unknown(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "lake" / "predictions" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("no JSON")
    found = status.examine(settings)
    assert found.sinks == []
    assert [line for line in found.unknown if line.endswith("how far the lake is")]


def test_topics_that_are_missing_are_told(kafka_bootstrap: str, topic_prefix: str) -> None:
    with pytest.raises(TopicMismatch, match="flyback topics create"):
        status.examine(load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix))


def test_a_broker_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_SECONDS", 0.5)
    with pytest.raises(BrokerError, match="no Kafka answers"):
        status.examine(load(bootstrap_servers=f"127.0.0.1:{free_port()}"))


def test_the_embedded_broker_names_no_members_so_its_workers_are_taken_at_their_word(
    embedded_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    found = load(
        bootstrap_servers=embedded_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        session_timeout="2s",
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
        worker_http_port=free_port(),
    )
    topics.create(found)
    with a_worker(found) as (engine, worker):

        def known() -> bool:
            asked = status.examine(found, [worker])
            owners = {partition.worker for partition in asked.partitions}
            strange = [line for line in asked.unknown if line.startswith("worker")]
            return owners == {engine.status()["worker_id"]} and not asked.problems and not strange

        eventually(known, "the worker is known to own all partitions", SECONDS)
    assert status.examine(found).problems == [
        f"no worker in group {topic_prefix}: start `flyback worker`, or give its endpoint by --worker"
    ]


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [("0.0.0.0", 1, ["127.0.0.1:1"]), ("::", 2, ["[::1]:2"]), ("10.0.0.7", 3, ["10.0.0.7:3"]), ("127.0.0.1", 0, [])],
)
def test_the_usual_address_is_one_that_can_be_asked(host: str, port: int, address: list[str]) -> None:
    assert endpoints.usual(load(http_host=host), port) == address
