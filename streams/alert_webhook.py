"""Tells a webhook of alerts: signed, one at a time and in order, for a while again and again, in a thread of its own.

The message and its headers are those of Standard Webhooks (https://www.standardwebhooks.com), so that receivers find
libraries which check them: the signature is HMAC-SHA256 over `id.timestamp.body`, in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flyback import __version__, metrics
from flyback.errors import ConfigurationError
from flyback.logs import get_logger
from flyback.schemas.codec import Record
from flyback.settings import Settings
from flyback.streams.alert_log import Written
from flyback.streams.alerts.rules import Rule
from flyback.streams.alerts.states import FIRING, PENDING, RESOLVED

log = get_logger(__name__)

ANSWER_SECONDS = 5.0
GIVE_UP_SECONDS = 900.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Webhook:
    """One address and the secret that its messages are signed with. Neither is ever logged."""

    def __init__(self, url: str, secret: str, severities: Mapping[str, str]) -> None:
        """`severities` by rule. Raises ConfigurationError for what is no address, or no secret."""
        if not _is_address(url):
            raise ConfigurationError(
                "FLYBACK_ALERT_WEBHOOK_URL must be an address, http://host/path or https://host/path, without a user"
            )
        self._url = url
        self._key = _key(secret)
        self._severities = severities
        self._opener = urllib.request.build_opener(_NoRedirects)

    def send(self, record: Record) -> str | None:
        """Try once. None where the receiver took it (2xx), else why not."""
        request = urllib.request.Request(self._url, *self.message(record, int(time.time())), method="POST")
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            moved = " and redirects are not followed" if 300 <= error.code < 400 else ""
            return f"it answered {error.code}{moved}"
        except (OSError, http.client.HTTPException) as error:
            # not str(error): what a receiver says, or an address with a password, may be in it
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            return f"no answer: {type(reason).__name__}"

    def message(self, record: Record, now: int) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a message, `now` in seconds."""
        name = f"{record['alert_id']}-{record['state']}"
        body = json.dumps(self._plain(record), ensure_ascii=False).encode()
        signed = hmac.new(self._key, f"{name}.{now}.".encode() + body, hashlib.sha256).digest()
        return body, {
            "content-type": "application/json",
            "user-agent": f"flyback/{__version__}",
            "webhook-id": name,
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }

    def _plain(self, record: Record) -> dict[str, Any]:
        at = _EPOCH + timedelta(microseconds=record["occurred_at"])
        return {**record, "severity": self._severities.get(record["rule"]), "occurred_at": at.isoformat()}


def webhook_of(settings: Settings, rules: Iterable[Rule]) -> Webhook | None:
    """The one that the settings name, if any. Raises ConfigurationError."""
    if settings.alert_webhook_url is None:
        return None
    if settings.alert_webhook_secret is None:
        raise ConfigurationError(
            "FLYBACK_ALERT_WEBHOOK_URL needs FLYBACK_ALERT_WEBHOOK_SECRET (or its _FILE): the receiver knows by it "
            "that a message is ours"
        )
    severities = {rule.name: rule.severity for rule in rules}
    return Webhook(
        settings.alert_webhook_url.get_secret_value(), settings.alert_webhook_secret.get_secret_value(), severities
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        return False


def _key(secret: str) -> bytes:
    """Standard Webhooks writes secrets as `whsec_` and base64; any other text is taken as it is."""
    kind, prefix, encoded = secret.partition("whsec_")
    if kind or not prefix:
        return secret.encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ConfigurationError("FLYBACK_ALERT_WEBHOOK_SECRET: after whsec_ there must be base64") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed message is for the one whom it was signed for."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Told(NamedTuple):
    """What need not be told any more; `undelivered` says why it could not be told."""

    written: Written
    undelivered: str | None = None


class Teller:
    """Takes what was written in its order, and gives it back in its order when the webhook knows of it.

    Without a webhook everything comes back at once. Nothing here blocks.
    """

    def __init__(
        self, send: Callable[[Record], str | None] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`send` tries once: None, or why it failed."""
        self._send = send
        self._clock = clock
        self._seen_firing = set[str]()
        self._waiting = queue.SimpleQueue[tuple[Written, float, bool] | None]()
        self._done = queue.SimpleQueue[Told]()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alert-webhook", daemon=True)
        if send is not None:
            self._thread.start()

    def passed(self, written: Written) -> None:
        """What the webhook was told before."""
        self._is_for_people(written.record)

    def tell(self, written: Written) -> None:
        """Tell of this one, if it is for people: FIRING, or RESOLVED of one that was FIRING."""
        asked = self._is_for_people(written.record)
        if self._send is None:
            self._done.put(Told(written))
        else:
            self._waiting.put((written, self._clock(), asked))

    def told(self) -> list[Told]:
        """What has been settled since the last call."""
        found = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self) -> None:
        """Not waited for: what is told meanwhile is told again by whoever comes next."""
        self._stopping.set()
        self._waiting.put(None)

    def _is_for_people(self, record: Record) -> bool:
        if record["state"] == FIRING:
            self._seen_firing.add(record["alert_id"])
        fired = record["alert_id"] in self._seen_firing
        if record["state"] == RESOLVED:
            self._seen_firing.discard(record["alert_id"])
        return fired and record["state"] != PENDING

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stopping.is_set():
            written, since, asked = item
            failed = self._tried(written.record, since) if asked else None
            if self._stopping.is_set() and failed is not None:
                return
            self._done.put(Told(written, failed))

    def _tried(self, record: Record, since: float) -> str | None:
        """Again and again until it is taken, or too old: each at least once, so that a queue comes to an end."""
        assert self._send is not None
        pause = _FIRST_PAUSE
        while True:
            failed = self._send(record)
            if failed is None:
                metrics.ALERT_DELIVERIES.labels("delivered").inc()
                return None
            metrics.ALERT_DELIVERIES.labels("failed").inc()
            late = self._clock() + pause - since > GIVE_UP_SECONDS
            log.warning(
                "the alert webhook did not take a message", alert=record["alert_id"], reason=failed, again=not late
            )
            if late or self._stopping.wait(pause):
                return failed
            pause = min(2 * pause, _LONGEST_PAUSE)
