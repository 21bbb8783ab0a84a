"""Events that were not delivered: why, in words that say what to do, and who is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError

from flyback.errors import DeliveryFailed, FlybackError
from flyback.outgoing import Outgoing

OnError = Callable[[str, Mapping[str, str], FlybackError], object]
"""Told of an event that was not delivered: its kind (prediction, correction or grade), its ids, and why."""

PURGED = ("_PURGE_QUEUE", "_PURGE_INFLIGHT")
_MISSING_TOPIC = ("_MSG_TIMED_OUT", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART")
_LOG_SECONDS = 60.0
_log = logging.getLogger("flyback.client")  # not structlog: see flyback.delivery


def undelivered(error: KafkaError, topic: str, within: float, bootstrap: str, refused: str | None) -> DeliveryFailed:
    """Kafka's error after `within` seconds in our words; `refused`: why brokers do not let us in, if we heard so."""
    code = error.name()
    if code in _MISSING_TOPIC and refused:
        text = f"{topic}: not acknowledged within {within:g} s: {refused}"
    elif code in _MISSING_TOPIC:
        text = (
            f"{topic}: not acknowledged within {within:g} s ({error.str()}): does Kafka answer at "
            f"{bootstrap}, and does the topic exist? `flyback topics create` makes it"
        )
    elif code in PURGED:
        text = f"{topic}: the client was closed before Kafka acknowledged this event; it may have arrived or not"
    else:
        text = f"{topic}: {error.str()}"
    return DeliveryFailed(code, text)


class Failures:
    """Tells `on_error` of each, and the log of their number."""

    def __init__(self, on_error: OnError | None) -> None:
        self._on_error = on_error
        self._on_error_raised = False
        self._logged = 0
        self._logged_at = -_LOG_SECONDS
        self._last: DeliveryFailed | None = None

    def tell(self, event: Outgoing, error: DeliveryFailed) -> None:
        """Call `on_error`; whatever it raises is logged, once."""
        self._last = error
        if self._on_error is None:
            return
        try:
            self._on_error(event.kind, event.ids, error)
        except BaseException as raised:  # SystemExit too would end the delivery of all later events
            if not self._on_error_raised:
                self._on_error_raised = True
                _log.warning("on_error raised %s; this is logged once", type(raised).__name__, exc_info=raised)

    def log(self, count: int, final: bool = False) -> None:
        """One line a minute at most, but for the final one: how many more failed of `count`, and the last reason."""
        new, now = count - self._logged, time.monotonic()
        if not new or not (final or now - self._logged_at >= _LOG_SECONDS):
            return
        self._logged, self._logged_at = count, now
        _log.warning("events not delivered: %d; the last: %s", new, self._last)
