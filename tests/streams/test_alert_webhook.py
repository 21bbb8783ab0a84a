"""What a webhook is told, over a real HTTP server that answers, fails, redirects or is slow."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flyback import settings
from flyback.errors import ConfigurationError
from flyback.schemas.codec import Record
from flyback.streams import alert_webhook, dlq
from flyback.streams.alert_rules import rules_of
from flyback.streams.alert_webhook import Webhook, webhook_of
from tests.streams.alert_stage import AlertStage
from tests.streams.alerts.counted import cell, reviewed, rule
from tests.waiting import eventually

SECRET = "canary-secret-3f1"
HIGH = rule("rate", 'above = 0.2\nwindow = "5m"\nfor = "2m"\nby = "segment"\nseverity = "critical"')
RECORD: Record = {
    "alert_id": "a-1", "rule": "r", "state": "FIRING", "actor": None, "version": None, "segment": "s", "value": 0.5,
    "threshold": 0.2, "window_seconds": 300, "message": "half failed", "occurred_at": 1_700_000_000_000_000,
}  # fmt: skip


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; answers with `statuses` in turn, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def bodies(self) -> list[tuple[str, str]]:
        return [(json.loads(body)["alert_id"], json.loads(body)["state"]) for _, body in self.got]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.server.hold.wait(20)
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", self.server.url + "/elsewhere")
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again at once, and never for long."""
    monkeypatch.setattr(alert_webhook, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(alert_webhook, "_LONGEST_PAUSE", 0.01)


def webhook(url: str, secret: str = SECRET) -> Webhook:
    return Webhook(url, secret, {"r": "critical"})


def test_a_message_is_signed_and_says_which_alert_it_is(receiver: Receiver) -> None:
    assert webhook(receiver.url).send(RECORD) is None
    [(headers, body)] = receiver.got
    assert headers["webhook-id"] == "a-1-FIRING"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert told["severity"] == "critical"
    assert told["occurred_at"] == "2023-11-14T22:13:20+00:00"
    assert set(RECORD) <= set(told)


def test_a_secret_as_standard_webhooks_writes_it_is_decoded(receiver: Receiver) -> None:
    key = bytes(range(32))
    body, headers = webhook(receiver.url, "whsec_" + base64.b64encode(key).decode()).message(RECORD, 5)
    digest = hmac.new(key, b"a-1-FIRING.5." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(500, "it answered 500"), (404, "it answered 404"), (302, "it answered 302 and redirects are not followed")],
)
def test_what_is_not_taken_is_told_and_no_redirect_is_followed(receiver: Receiver, status: int, reason: str) -> None:
    receiver.statuses = [status]
    assert webhook(receiver.url).send(RECORD) == reason
    assert len(receiver.got) == 1


def test_a_receiver_that_does_not_answer_is_not_waited_for(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_webhook, "ANSWER_SECONDS", 0.2)
    receiver.hold.clear()
    assert webhook(receiver.url).send(RECORD) == "no answer: TimeoutError"


def test_nobody_there_is_told_without_the_address() -> None:
    assert webhook("http://127.0.0.1:1/secret-path").send(RECORD) == "no answer: ConnectionRefusedError"


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "http://", "http://u:p@host/", "http://[", "http://h:x/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="FLYBACK_ALERT_WEBHOOK_URL must be an address"):
        webhook(url)


def test_a_webhook_needs_a_secret_and_a_right_one() -> None:
    loaded = settings.load(alert_webhook_url="http://host/x")
    with pytest.raises(ConfigurationError, match="needs FLYBACK_ALERT_WEBHOOK_SECRET"):
        webhook_of(loaded, rules_of(loaded))
    with pytest.raises(ConfigurationError, match="must be base64"):
        webhook("http://host/x", "whsec_%%%")
    assert webhook_of(settings.load(), ()) is None


def open_and_resolve(stage: AlertStage, receiver: Receiver, told: int) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(watch, 8)
    end = stage.kafka.logs[stage.alerts][0].end

    def settled() -> bool:
        stage.step(watch)
        return stage.told() >= end - 1 and len(receiver.got) >= told

    eventually(settled, "all is told")
    watch.close()


def test_it_is_told_once_of_what_fires_and_of_its_end_and_never_of_pending_ones(receiver: Receiver) -> None:
    stage = AlertStage([HIGH], webhook(receiver.url))
    open_and_resolve(stage, receiver, 2)
    assert [state for _, state in receiver.bodies()] == ["FIRING", "RESOLVED"]
    again = stage.watch()
    stage.step(again)
    stage.pass_minutes(again, 2)
    assert len(receiver.got) == 2


def test_what_was_written_before_there_was_a_webhook_is_not_told(receiver: Receiver) -> None:
    stage = AlertStage([HIGH])
    open_and_resolve(stage, receiver, 0)
    stage.webhook = webhook(receiver.url)
    watch = stage.watch()
    stage.step(watch)
    stage.pass_minutes(watch, 2)
    assert receiver.got == []


def test_it_is_tried_again_until_it_is_taken(receiver: Receiver, soon: None) -> None:
    receiver.statuses = [500, 503, 302]
    stage = AlertStage([HIGH], webhook(receiver.url))
    open_and_resolve(stage, receiver, 5)
    assert [state for _, state in receiver.bodies()] == ["FIRING"] * 4 + ["RESOLVED"]
    assert stage.kafka.records(stage.topology.dead_letters_of(stage.alerts)) == []


def test_what_it_never_took_is_a_dead_letter_with_the_reason(
    receiver: Receiver, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_webhook, "GIVE_UP_SECONDS", 0.0)
    receiver.statuses = [500]
    stage = AlertStage([HIGH], webhook(receiver.url))
    open_and_resolve(stage, receiver, 2)
    [letter] = stage.kafka.records(stage.topology.dead_letters_of(stage.alerts))
    facts = dict(letter.headers or ())
    assert facts[dlq.REASON] == b"webhook_failed"
    assert facts[dlq.MESSAGE] == b"it answered 500"
    assert letter.value in [record.value for record in stage.kafka.records(stage.alerts)]
    assert [state for _, state in receiver.bodies()] == ["FIRING", "RESOLVED"], "an end is told all the same"


def test_a_delivery_that_was_not_remembered_is_made_again_by_the_next_one(receiver: Receiver) -> None:
    stage = AlertStage([HIGH], webhook(receiver.url))
    first = stage.watch()
    stage.step(first)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(first, 2)
    receiver.hold.clear()
    stage.pass_minutes(first, 1)
    eventually(lambda: len(receiver.got) == 1, "it is being told")
    stage.kill(first)
    receiver.hold.set()
    second = stage.watch()
    stage.step(second)
    eventually(lambda: len(receiver.got) == 2, "it is told again")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1, "by which a copy is known"


def test_a_receiver_that_hangs_holds_up_nobody(receiver: Receiver) -> None:
    receiver.hold.clear()
    stage = AlertStage([HIGH], webhook(receiver.url))
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(watch, 8)
    assert [record["state"] for record in stage.written()] == ["PENDING", "FIRING", "RESOLVED"]
    watch.close()


def test_neither_the_secret_nor_the_address_is_logged(
    receiver: Receiver, soon: None, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.statuses = [500]
    stage = AlertStage([HIGH], webhook(receiver.url + "/token-9d2"))
    open_and_resolve(stage, receiver, 3)
    said = "".join(capsys.readouterr())
    assert "did not take a message" in said
    assert SECRET not in said
    assert "token-9d2" not in said
