"""No broker, or none yet: the calling service goes on, and nothing is lost silently."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from threading import Thread, current_thread
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from flyback import BufferFull, Client, DeliveryFailed, FlybackError, PredictionRef, delivery, human, model
from flyback.outgoing import Stats
from flyback.settings import load
from tests.sdk.conftest import MakeClient
from tests.waiting import eventually

REF = PredictionRef("t", "p")


def confirm(client: Client, **given: Any) -> str:
    return client.confirm(REF, author=human("ann"), **given)


class Failures:
    """An on_error that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str], FlybackError]] = []
        self.threads: set[Thread] = set()

    def __call__(self, kind: str, ids: Mapping[str, str], error: FlybackError) -> None:
        self.told.append((kind, dict(ids), error))
        self.threads.add(current_thread())


def test_events_are_taken_and_wait_while_no_broker_is_there(make_client: MakeClient) -> None:
    client = make_client()
    p = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    client.correct(p, output="truth", author=human("ann"))
    client.grade(p, rubric="tone", rubric_version="2", scores={}, author=human("eve"))
    stats = client.stats()
    assert (stats.sent, stats.failed, stats.waiting) == (0, 0, 3)
    assert stats.bytes > 0
    assert client.flush(timeout=0.05) == 3


def test_the_buffer_is_full_at_its_number_of_events_and_has_room_again_when_they_failed(
    make_client: MakeClient,
) -> None:
    client = make_client(buffer_events=10, delivery_timeout="500ms")
    for _ in range(10):
        confirm(client)
    with pytest.raises(BufferFull, match=r"10 events .* FLYBACK_BUFFER_EVENTS"):
        confirm(client)
    assert client.stats().waiting == 10
    assert client.flush(timeout=20) == 0
    confirm(client)
    assert (client.stats().failed, client.stats().waiting) == (10, 1)


def test_the_buffer_is_full_at_its_number_of_bytes(make_client: MakeClient) -> None:
    client = make_client(buffer_bytes=1_000_000)
    reason = "x" * 400_000
    confirm(client, reason=reason)
    confirm(client, reason=reason)
    with pytest.raises(BufferFull, match="FLYBACK_BUFFER_BYTES"):
        confirm(client, reason=reason)
    confirm(client)
    assert client.stats().waiting == 3


def test_on_error_is_told_of_each_event_that_was_not_delivered_in_time(make_client: MakeClient) -> None:
    failures = Failures()
    client = make_client(delivery_timeout="500ms", on_error=failures)
    p = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    correction = client.reject(p, author=human("ann"))
    grade = client.grade(p, rubric="tone", rubric_version="2", scores={}, author=human("eve"))
    assert client.flush(timeout=20) == 0
    ids = {"task_id": "t", "prediction_id": p.prediction_id}
    assert sorted((kind, told) for kind, told, _ in failures.told) == [
        ("correction", {**ids, "correction_id": correction}),
        ("grade", {**ids, "grade_id": grade}),
        ("prediction", ids),
    ]
    for _, _, error in failures.told:
        assert isinstance(error, DeliveryFailed)
        assert error.code == "_MSG_TIMED_OUT"
        assert "flyback topics create" in str(error)
    assert current_thread() not in failures.threads
    assert client.stats().failed == 3


def test_an_exception_in_on_error_is_logged_once_and_delivery_goes_on(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise SystemExit("from on_error")

    client = make_client(delivery_timeout="200ms", on_error=broken)
    for _ in range(3):
        confirm(client)
    assert client.flush(timeout=20) == 0
    confirm(client)
    assert client.flush(timeout=20) == 0
    assert client.stats().failed == 4
    assert [record.message for record in caplog.records if "on_error" in record.message] == [
        "on_error raised SystemExit; this is logged once"
    ]


@pytest.mark.parametrize(
    ("room", "code"),
    # the second event is held where librdkafka, in the middle of reporting the first, has no room yet
    [(1, "closed"), (100, "_PURGE_QUEUE")],
)
def test_on_error_may_send_flush_and_close(make_client: MakeClient, room: int, code: str) -> None:
    clients: list[Client] = []
    told: list[tuple[str, str]] = []

    def again(kind: str, ids: Mapping[str, str], error: FlybackError) -> None:
        told.append((ids["correction_id"], error.code if isinstance(error, DeliveryFailed) else ""))
        if len(told) == 1:
            confirm(clients[0], correction_id="second")
            assert clients[0].flush(timeout=60) == 1  # does not wait for itself
            clients[0].close(timeout=60)

    clients.append(make_client(buffer_events=room, delivery_timeout="200ms", on_error=again))
    confirm(clients[0], correction_id="first")
    eventually(lambda: len(told) == 2, "both events are reported")
    assert told == [("first", "_MSG_TIMED_OUT"), ("second", code)]


def test_closing_fails_what_is_left_and_says_how_much(make_client: MakeClient) -> None:
    failures = Failures()
    client = make_client(on_error=failures)
    confirm(client, correction_id="a")
    confirm(client, correction_id="b")
    assert client.close(timeout=0) == 2
    assert {ids["correction_id"] for _, ids, _ in failures.told} == {"a", "b"}
    assert all("closed" in str(error) for _, _, error in failures.told)
    assert (client.stats().failed, client.stats().waiting) == (2, 0)


def test_a_closed_client_takes_nothing_and_may_be_closed_again(make_client: MakeClient) -> None:
    client = make_client()
    assert client.close() == 0
    assert client.close() == 0
    with pytest.raises(FlybackError, match="closed"):
        confirm(client)


def test_without_on_error_failures_are_logged_by_their_number_not_one_by_one(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(delivery_timeout="300ms")
    for _ in range(50):
        confirm(client, reason="canary-reason")
    assert client.flush(timeout=20) == 0
    client.close()
    lines = [record.message for record in caplog.records if "not delivered" in record.message]
    assert 1 <= len(lines) <= 2
    assert "canary-reason" not in caplog.text


def test_many_threads_share_one_client(make_client: MakeClient) -> None:
    client = make_client(buffer_events=1_000, delivery_timeout="500ms")
    refused: list[BufferFull] = []

    def send() -> None:
        for _ in range(300):
            try:
                confirm(client)
            except BufferFull as full:
                refused.append(full)

    threads = [Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(timeout=20) == 0
    stats = client.stats()
    assert stats.failed + len(refused) == 2_400
    assert (stats.sent, stats.waiting, stats.bytes) == (0, 0, 0)


def test_after_a_fatal_error_of_kafkas_client_events_go_through_a_new_one(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real fatal error needs a broker that loses acknowledged messages; so the first producer only says it had one.
    made: list[Producer] = []

    class FatalAtFirst(Producer):
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            made.append(self)

        def produce(self, *args: Any, **given: Any) -> None:
            if self is made[0]:
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of sequence"))  # it does not say `fatal`
            super().produce(*args, **given)

        def flush(self, timeout: float = -1) -> int:
            if self is made[0]:
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of sequence", fatal=True))
            return super().flush(timeout)

    monkeypatch.setattr(delivery, "Producer", FatalAtFirst)
    client = make_client(delivery_timeout="500ms")
    confirm(client)
    assert client.flush(timeout=20) == 0
    assert len(made) >= 2
    assert client.stats().failed == 1  # there is still no broker, so the new one timed out


def test_what_a_replaced_client_still_reports_is_counted_no_more(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Acknowledged:
        def offset(self) -> int:
            return 5

    made: list[Producer] = []
    reports: list[Any] = []

    class LateAtFirst(Producer):
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            made.append(self)

        def produce(self, *args: Any, **given: Any) -> None:
            reports.append(given["on_delivery"])
            if self is not made[0]:
                super().produce(*args, **given)

        def poll(self, timeout: float = -1) -> int:
            if self is made[0] and reports:
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of sequence", fatal=True))
            return super().poll(timeout)

    monkeypatch.setattr(delivery, "Producer", LateAtFirst)
    client = make_client()
    confirm(client)
    before = client.stats()
    eventually(lambda: len(reports) == 2, "the event goes through another client")
    reports[0](None, Acknowledged())
    assert client.stats() == before
    reports[1](None, Acknowledged())
    reports[1](None, Acknowledged())
    assert client.stats() == Stats(sent=1, failed=0, waiting=0, bytes=0)


def test_where_no_new_client_can_be_made_events_fail_in_their_time_and_it_is_tried_again(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Producer] = []

    def one_alone(*args: Any, **given: Any) -> Producer:
        if made:
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "no certificate"))
        made.append(Producer(*args, **given))
        return made[0]

    monkeypatch.setattr(delivery, "Producer", one_alone)
    client = make_client(delivery_timeout="500ms")
    for _ in range(2):
        confirm(client)
        assert client.flush(timeout=20) == 0
    assert client.stats().failed == 2
    assert [record.message for record in caplog.records if "cannot be" in record.message] == [
        "Kafka's client has to be replaced, and cannot be: Kafka's client refuses these settings: no certificate"
    ]


def test_after_a_longer_outage_each_event_is_told_to_be_late_and_closing_tells_the_rest(
    make_client: MakeClient,
) -> None:
    codes: list[str] = []
    client = make_client(
        delivery_timeout="500ms", on_error=lambda _, __, error: codes.append(getattr(error, "code", ""))
    )
    for _ in range(30):
        confirm(client)
        time.sleep(0.1)
    assert "_PURGE_QUEUE" not in codes and codes
    left = client.close(timeout=0)
    assert len(codes) == 30
    assert sum(code.startswith("_PURGE") or code == "closed" for code in codes) == left
    assert client.stats().waiting == 0


def test_a_secret_is_in_no_log_line_error_or_repr(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "canary-5e1f"
    caplog.set_level(logging.DEBUG)
    failures = Failures()
    client = make_client(
        security_protocol="SASL_PLAINTEXT", sasl_username="ann", sasl_password=canary, sasl_mechanism="PLAIN",
        delivery_timeout="300ms", on_error=failures,
    )  # fmt: skip
    confirm(client)
    assert client.flush(timeout=20) == 0
    shown = [caplog.text, repr(client), str(client), repr(failures.told), *capfd.readouterr()]
    assert failures.told
    assert not [text for text in shown if canary in text]


def test_librdkafkas_log_lines_go_through_logging_and_not_to_stderr(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client = make_client(delivery_timeout="500ms")
    confirm(client)
    assert client.flush(timeout=20) == 0
    assert [record for record in caplog.records if record.name == "flyback.kafka"]
    assert "rdkafka" not in capfd.readouterr().err


def test_a_script_that_neither_closes_nor_flushes_ends_and_says_what_it_lost(dead_address: str) -> None:
    script = """
from flyback import Client, PredictionRef, human
client = Client(delivery_timeout="400ms")
client.confirm(PredictionRef("t", "p"), author=human("ann"))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**load(bootstrap_servers=dead_address).environment()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert "events not delivered: 1" in ended.stderr
    assert "rdkafka" not in ended.stderr
