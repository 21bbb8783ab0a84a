"""The SDK against real Kafka: what arrives, where, and in which form."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flyback import Client, chat, delivery, human, model, topics
from flyback.local.kafka import KafkaBroker
from flyback.settings import Settings, load
from flyback.streams.topology import partition_for
from tests.sdk.conftest import MakeClient
from tests.sdk.reading import Found, avsc, read
from tests.waiting import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOON = datetime(2025, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    found = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, partitions=4)
    topics.create(found)
    return found


class Refused:
    """What the client reports of a message of which it only concludes that it arrived."""

    def offset(self) -> None:
        return None


def only(settings: Settings, kind: str) -> Found:
    [found] = read(settings.bootstrap_servers, settings.topic_prefix, kind, 1)
    assert found.key == found.event["task_id"].encode()
    assert found.partition == partition_for(found.key, 4)
    return found


def test_a_prediction_arrives_with_all_it_was_given(settings: Settings) -> None:
    with Client(settings) as client:
        p = client.predict(
            task_id="tä-1", actor=model("vader", "3.3.2"), input=chat([{"role": "user", "content": "well?"}]),
            output={"label": "positive"}, context=["a passage", {"k": 1}], confidence=0.9, segment="amazon",
            attributes={"lang": "de"}, occurred_at=NOON, traceparent=TRACE,
        )  # fmt: skip
    found = only(settings, "predictions")
    assert found.event == {
        "prediction_id": p.prediction_id,
        "task_id": "tä-1",
        "actor": {"kind": "MODEL", "name": "vader", "version": "3.3.2"},
        "input": {
            "content_type": "application/vnd.flyback.chat+json",
            "body": '[{"role":"user","content":"well?"}]',
        },
        "output": {"content_type": "application/json", "body": '{"label":"positive"}'},
        "context": [
            {"content_type": "text/plain", "body": "a passage"},
            {"content_type": "application/json", "body": '{"k":1}'},
        ],
        "confidence": 0.9,
        "segment": "amazon",
        "attributes": {"lang": "de"},
        "occurred_at": NOON,
    }
    assert found.headers == [("traceparent", TRACE.encode())]
    assert client.stats().sent == 1


def test_without_a_registry_the_schema_id_is_the_hash_of_the_schema(settings: Settings) -> None:
    with Client(settings) as client:
        client.predict(task_id="t", actor=human("ann"), input="in", output="out")
    canonical = json.dumps(avsc("prediction"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    bits = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big")
    found = only(settings, "predictions")
    assert found.schema_id == bits >> 1
    assert found.event["actor"]["kind"] == "HUMAN"


def test_a_correction_by_another_process_days_later_names_the_prediction(settings: Settings) -> None:
    with Client(settings) as client:
        p = client.predict(task_id="t-1", actor=model("m"), input="in", output="out", occurred_at=NOON)
    later = (NOON + timedelta(days=9)).astimezone()
    script = """
import sys
from datetime import datetime
from flyback import Client, human
task_id, prediction_id, occurred_at = sys.argv[1:]
with Client() as client:
    print(client.correct(
        task_id=task_id, prediction_id=prediction_id, output={"label": "negative"}, author=human("ann"),
        reason="sarcasm", error_category="polarity", authority=3, sampling_probability=0.25,
        attributes={"tool": "x"}, occurred_at=datetime.fromisoformat(occurred_at),
    ))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, p.task_id, p.prediction_id, later.isoformat()],
        env=settings.environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert only(settings, "corrections").event == {
        "correction_id": ended.stdout.strip(),
        "task_id": "t-1",
        "prediction_id": p.prediction_id,
        "verdict": "CORRECTED",
        "output": {"content_type": "application/json", "body": '{"label":"negative"}'},
        "author": {"kind": "HUMAN", "name": "ann", "version": ""},
        "authority": 3,
        "reason": "sarcasm",
        "error_category": "polarity",
        "sampling_probability": 0.25,
        "attributes": {"tool": "x"},
        "occurred_at": later,
    }


def test_a_confirmation_and_a_rejection_have_no_output(settings: Settings) -> None:
    with Client(settings) as client:
        p = client.predict(task_id="t", actor=model("m"), input="in", output="out")
        confirmed = client.confirm(p, author=human("ann"), traceparent=TRACE)
        rejected = client.reject(p, author=model("judge", "1"), error_category="unsafe", correction_id="mine")
    found = {
        f.event["correction_id"]: f for f in read(settings.bootstrap_servers, settings.topic_prefix, "corrections", 2)
    }
    assert found.keys() == {confirmed, rejected}
    assert rejected == "mine"
    assert (found[confirmed].event["verdict"], found[confirmed].event["output"]) == ("CONFIRMED", None)
    assert (found["mine"].event["verdict"], found["mine"].event["output"]) == ("REJECTED", None)
    assert found["mine"].event["error_category"] == "unsafe"
    assert found[confirmed].headers == [("traceparent", TRACE.encode())]


def test_a_grade_arrives_with_all_it_was_given(settings: Settings) -> None:
    with Client(settings) as client:
        p = client.predict(task_id="t", actor=human("bob"), input="in", output="out")
        grade = client.grade(
            p, rubric="tone", rubric_version="2", scores={"polite": (4, 5), "short": (0.5, 1)}, passed=True,
            rationale="fine", author=human("eve"), sampling_probability=1, attributes={"a": "b"}, occurred_at=NOON,
        )  # fmt: skip
    assert only(settings, "grades").event == {
        "grade_id": grade,
        "task_id": "t",
        "prediction_id": p.prediction_id,
        "rubric": "tone",
        "rubric_version": "2",
        "scores": [
            {"criterion": "polite", "score": 4.0, "max_score": 5.0},
            {"criterion": "short", "score": 0.5, "max_score": 1.0},
        ],
        "passed": True,
        "rationale": "fine",
        "author": {"kind": "HUMAN", "name": "eve", "version": ""},
        "sampling_probability": 1.0,
        "attributes": {"a": "b"},
        "occurred_at": NOON,
    }


def test_a_record_is_stamped_now_whatever_the_events_own_time(kafka_bootstrap: str, topic_prefix: str) -> None:
    # Where the topic keeps the producer's time, a far one would be refused, with its neighbours in the batch.
    topic = f"{topic_prefix}predictions.v1"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    before = time.time_ns() // 1_000_000
    with Client(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix) as client:
        for year in (1, 1969, 9999):
            moment = datetime(year, 6, 1, tzinfo=UTC)
            client.predict(task_id=f"t-{year}", actor=model("m"), input="in", output="out", occurred_at=moment)
    found = read(kafka_bootstrap, topic_prefix, "predictions", 3, partitions=1)
    assert [f.event["occurred_at"].year for f in found] == [1, 1969, 9999]
    for kind, stamp in (f.timestamp for f in found):
        assert kind == TIMESTAMP_CREATE_TIME
        assert before <= stamp <= time.time_ns() // 1_000_000


def test_events_near_the_size_limit_arrive(settings: Settings) -> None:
    with Client(settings) as client:
        client.predict(task_id="t" * 1_000, actor=model("m"), input="ä" * 499_000, output="out")
        assert client.flush(30) == 0
        assert client.stats().sent == 1
    assert len(only(settings, "predictions").event["input"]["body"]) == 499_000


def test_keys_of_many_shapes_go_where_javas_partitioner_puts_them(settings: Settings) -> None:
    tasks = [f"{'ä' * (i % 7)}-{i}" for i in range(200)]
    with Client(settings) as client:
        for task in tasks:
            client.predict(task_id=task, actor=model("m"), input="in", output="out")
    found = read(settings.bootstrap_servers, settings.topic_prefix, "predictions", len(tasks))
    assert {f.partition for f in found} == {0, 1, 2, 3}
    assert all(f.partition == partition_for(f.key, 4) for f in found)


def test_many_threads_lose_and_double_nothing(settings: Settings) -> None:
    with Client(settings) as client:

        def send(thread: int) -> None:
            for i in range(500):
                client.predict(task_id=f"{thread}-{i}", actor=model("m"), input="in", output="out")

        threads = [Thread(target=send, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(30) == 0
        assert (client.stats().sent, client.stats().bytes) == (3_000, 0)
    found = read(settings.bootstrap_servers, settings.topic_prefix, "predictions", 3_000)
    assert len({f.event["prediction_id"] for f in found}) == 3_000
    assert {f.event["task_id"] for f in found} == {f"{t}-{i}" for t in range(6) for i in range(500)}


def test_events_are_delivered_without_a_flush(settings: Settings) -> None:
    client = Client(settings)
    try:
        client.predict(task_id="t", actor=model("m"), input="in", output="out")
        eventually(lambda: client.stats().sent == 1, "the event is acknowledged")
    finally:
        client.close()


def test_events_of_an_outage_arrive_once_when_the_broker_is_back(kafka_broker: KafkaBroker) -> None:
    settings = load(bootstrap_servers=kafka_broker.bootstrap, partitions=4)
    topics.create(settings)
    with Client(settings) as client:

        def send(tasks: range) -> None:
            for i in tasks:
                client.predict(task_id=f"t-{i}", actor=model("m"), input="in", output="out")

        send(range(50))
        kafka_broker.kill()
        send(range(50, 100))
        kafka_broker.start()
        send(range(100, 150))
        assert client.flush(60) == 0
        assert (client.stats().sent, client.stats().failed) == (150, 0)
    found = read(kafka_broker.bootstrap, settings.topic_prefix, "predictions", 150)
    assert {f.event["task_id"] for f in found} == {f"t-{i}" for i in range(150)}


def test_a_topic_that_does_not_exist_is_reported_with_what_to_do(
    kafka_bootstrap: str, topic_prefix: str, make_client: MakeClient
) -> None:
    told: list[str] = []
    client = make_client(
        bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, delivery_timeout="1s",
        on_error=lambda kind, ids, error: told.append(str(error)),
    )  # fmt: skip
    client.predict(task_id="t", actor=model("m"), input="in", output="out")
    assert client.flush(30) == 0
    [message] = told
    assert f"{topic_prefix}predictions.v1" in message
    assert "flyback topics create" in message


def test_what_is_called_delivered_without_an_offset_is_sent_again(
    settings: Settings, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # librdkafka does so where a new leader refuses a first batch and takes the next one: no test can have that at will
    reports: list[Callable[[None, Refused], None]] = []

    class Concluding(Producer):
        def produce(self, *args: Any, on_delivery: Any, **given: Any) -> None:
            if reports:
                super().produce(*args, on_delivery=on_delivery, **given)
            else:
                reports.append(on_delivery)

        def flush(self, timeout: float = -1) -> int:
            if len(reports) == 1:
                reports.append(reports[0])
                reports[0](None, Refused())
            return super().flush(timeout)

    monkeypatch.setattr(delivery, "Producer", Concluding)
    client = make_client(bootstrap_servers=settings.bootstrap_servers, topic_prefix=settings.topic_prefix)
    refused = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    assert client.flush(timeout=30) == 0
    assert only(settings, "predictions").event["prediction_id"] == refused.prediction_id
    assert (client.stats().sent, client.stats().failed) == (1, 0)


def test_a_client_that_gets_no_answer_for_too_long_is_replaced_and_takes_along_what_waits(
    settings: Settings, make_client: MakeClient, dead_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # librdkafka may never look again for brokers that it lost (its issue 5301): this one does not find them at first
    made: list[Producer] = []

    def lost_at_first(config: dict[str, Any], **given: Any) -> Producer:
        made.append(Producer(config | ({} if made else {"bootstrap.servers": dead_address}), **given))
        return made[-1]

    monkeypatch.setattr(delivery, "Producer", lost_at_first)
    failed: list[str] = []
    client = make_client(
        bootstrap_servers=settings.bootstrap_servers,
        topic_prefix=settings.topic_prefix,
        delivery_timeout="10s",
        on_error=lambda kind, ids, error: failed.append(ids["prediction_id"]),
    )
    first = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    time.sleep(4)
    second = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    assert client.flush(timeout=60) == 0
    assert failed == [first.prediction_id]
    assert only(settings, "predictions").event["prediction_id"] == second.prediction_id
    assert len(made) == 2
