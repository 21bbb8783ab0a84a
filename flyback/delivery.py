"""From the calling thread to Kafka without making it wait: a bounded buffer and one background thread.

An event goes straight into librdkafka's queue. It is *held* here first while its schema id is not known yet (the
registry is asked by a thread of its own), so neither Kafka nor a registry has to be up when a service starts. What
is held and what librdkafka has not delivered count together against `buffer_events` and `buffer_bytes`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flyback.errors import BufferFull, ConfigurationError, DeliveryFailed, FlybackError
from flyback.login import Login
from flyback.schemas import wire

if TYPE_CHECKING:
    from flyback.settings import Settings
    from flyback.streams.topology import Topology

OnError = Callable[[str, Mapping[str, str], FlybackError], object]
"""Told of an event that was not delivered: its kind (prediction, correction or grade), its ids, and why."""

HEADER_ROOM = 65_536
"""Bytes that a message may have besides its value: key and headers. The topics allow as much."""
_POLL_SECONDS = 0.1
_PURGE_SECONDS = 5.0
_LOG_SECONDS = 60.0
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.25, 10.0
_MISSING_TOPIC = ("_MSG_TIMED_OUT", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART")
_PURGED = ("_PURGE_QUEUE", "_PURGE_INFLIGHT")
_OF_THE_CLIENT = ("_FATAL", "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "_INCONSISTENT")
"""Errors after which an idempotent producer refuses everything."""

# Not structlog: this runs inside other people's services, and structlog that nobody configured prints to stdout.
# `flyback.logs.configure` renders these lines like all others.
_log = logging.getLogger("flyback.client")
# librdkafka's own lines: through the service's logging or not at all, but never bare on stderr.
_kafka_log = logging.getLogger("flyback.kafka")
_kafka_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events handed over since the client was made (in a forked child: since the fork).

    `sent` and `failed` count events, `waiting` those that are neither yet, `bytes` what these occupy.
    """

    sent: int
    failed: int
    waiting: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One encoded event. `body` is its Avro body, without the schema id: with a registry that may be known later."""

    kind: str
    record: str
    ids: Mapping[str, str]
    key: bytes
    body: bytes
    headers: list[tuple[str, str | bytes | None]]  # as confluent-kafka types it

    @property
    def size(self) -> int:
        return wire.HEADER + len(self.body) + len(self.key) + sum(len(value or b"") for _, value in self.headers)


class _Sending:
    """One event in the hands of Kafka's client, and until when (monotonic) it may be sent again."""

    __slots__ = ("deadline", "event")

    def __init__(self, event: Outgoing, deadline: float) -> None:
        self.event = event
        self.deadline = deadline


class Delivery:
    """Thread-safe. A forked child starts with an empty buffer and a producer of its own, made when first used."""

    def __init__(
        self, settings: Settings, topology: Topology, records: tuple[str, ...], on_error: OnError | None
    ) -> None:
        self._settings = settings
        self._topics = {record: topology.topic_of(record) for record in records}
        self._on_error = on_error
        self._ids: dict[str, int] = {}
        self._closed = False
        self._start_empty()
        with self._lock:
            self._start()
        atexit.register(self.close)
        _ALL.add(self)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._held: dict[str, deque[tuple[float, Outgoing]]] = {record: deque() for record in self._topics}
        self._under_way: dict[_Sending, None] = {}
        self._refused: deque[tuple[_Sending, KafkaError]] = deque()
        self._login = Login(self._settings, _log.warning)
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._unusable = False
        self._cannot_replace = ""
        self._acknowledged_at = time.monotonic()
        self._giving_up = False
        self._flushing = 0
        self._telling = 0
        self._sent = self._failed = self._waiting = self._bytes = 0
        self._schema_error: FlybackError | None = None
        self._callback_raised = False
        self._logged_at = -_LOG_SECONDS
        self._logged_failures = 0
        self._last_error: DeliveryFailed | None = None

    def hand_over(self, event: Outgoing) -> None:
        """Take one event without waiting. Raises BufferFull, and FlybackError after `close`."""
        with self._lock:
            if self._closed:
                raise FlybackError("this Client is closed: make a new one")
            if (
                self._waiting + 1 > self._settings.buffer_events
                or self._bytes + event.size > self._settings.buffer_bytes
            ):
                raise BufferFull(
                    f"{self._waiting} events ({self._bytes} bytes) wait for delivery: retry later, or raise "
                    "FLYBACK_BUFFER_EVENTS or FLYBACK_BUFFER_BYTES"
                )
            if self._producer is None:
                self._start()
            self._waiting += 1
            self._bytes += event.size
            held, deadline = self._held[event.record], time.monotonic() + self._timeout
            if held or not self._produce(event, deadline):
                held.append((deadline, event))

    def stats(self) -> Stats:
        with self._lock:
            return Stats(self._sent, self._failed, self._waiting, self._bytes)

    def flush(self, timeout: float) -> int:
        """Wait until every event is delivered or failed, at most `timeout` seconds; gives how many are neither.

        Called from `on_error` it does not wait, since the thread that would deliver is the caller's.
        """
        with self._settled:
            if threading.current_thread() is self._thread:
                return self._waiting
            self._flushing += 1
            try:
                self._settled.wait_for(lambda: not self._waiting and not self._telling, timeout)
            finally:
                self._flushing -= 1
            return self._waiting

    def close(self, timeout: float = 10.0) -> int:
        """Flush, fail what is left after `timeout` seconds (`on_error` is told), stop; gives how many were left."""
        with self._lock:
            closed, self._closed = self._closed, True
            producer, thread = self._producer, self._thread
        if closed or producer is None or thread is None:
            return 0
        atexit.unregister(self.close)
        if left := self.flush(timeout):
            with self._lock:
                self._giving_up = True
                producer = self._producer or producer  # it may have been replaced meanwhile
            producer.purge()
            self.flush(_PURGE_SECONDS)
        self._stop.set()
        if thread is not threading.current_thread():
            thread.join(_PURGE_SECONDS)
            for sending in list(self._under_way):  # none, unless reports were swallowed
                self._reported(sending, KafkaError(KafkaError._PURGE_INFLIGHT))
        self._log_failures(final=True)
        with self._lock:
            self._producer = None
        return left

    @property
    def _timeout(self) -> float:
        return self._settings.delivery_timeout.total_seconds()

    def _start(self) -> None:
        """Producer and threads. Called with the lock held; connects to nothing, so it does not wait."""
        self._producer = self._new_producer()
        if len(self._ids) < len(self._topics):
            self._learn_ids(self._stop)
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="flyback-delivery", daemon=True)
        self._thread.start()

    def _new_producer(self) -> Producer:
        settings = self._settings
        config = settings.kafka(
            client_id="flyback-client",
            enable_idempotence=True,
            acks="all",
            partitioner="murmur2_random",
            compression_type=settings.compression,
            linger_ms=settings.linger.total_seconds() * 1000,
            message_timeout_ms=round(self._timeout * 1000),
            message_max_bytes=settings.max_event_bytes + HEADER_ROOM,
            queue_buffering_max_messages=settings.buffer_events,
            queue_buffering_max_kbytes=-(-settings.buffer_bytes // 1024),
        )
        try:
            return Producer(config | {"error_cb": self._login}, logger=_kafka_log)
        except KafkaException as error:
            raise ConfigurationError(f"Kafka's client refuses these settings: {error.args[0].str()}") from None

    def _learn_ids(self, stop: threading.Event) -> None:
        from flyback.schemas.catalog import open_catalog

        catalog = open_catalog(self._settings)
        if self._settings.registry_url is None:
            self._ids = {record: catalog.id_for(record, topic) for record, topic in self._topics.items()}
            return

        def ask() -> None:
            delay = _FIRST_RETRY_SECONDS
            while missing := self._topics.keys() - self._ids.keys():
                for record in sorted(missing):
                    try:
                        found = catalog.id_for(record, self._topics[record])
                    except FlybackError as error:
                        if self._schema_error is None and not stop.is_set():
                            _log.warning("no schema id for %s yet, events wait: %s", record, error)
                        self._schema_error = error
                    else:
                        with self._lock:
                            self._ids[record] = found
                if stop.wait(delay):
                    return
                delay = min(2 * delay, _LAST_RETRY_SECONDS)

        threading.Thread(target=ask, name="flyback-schemas", daemon=True).start()

    def _produce(self, event: Outgoing, deadline: float) -> bool:
        """Give the event to librdkafka, which copies it; False where it must be held. Called with the lock held."""
        schema_id = self._ids.get(event.record)
        if schema_id is None or self._producer is None or self._unusable:
            return False
        sending = _Sending(event, deadline)
        self._under_way[sending] = None
        try:
            self._producer.produce(
                self._topics[event.record],
                wire.frame(schema_id, event.body),
                event.key,
                headers=event.headers,
                on_delivery=partial(self._reported, sending),
            )
        except BufferError:  # librdkafka frees the room of a delivered event a moment after it reports it
            del self._under_way[sending]
            return False
        except KafkaException as error:
            if error.args[0].name() in _OF_THE_CLIENT:
                del self._under_way[sending]
                self._unusable = True
                return False
            self._refused.append((sending, error.args[0]))
        return True

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set() and (producer := self._producer):
            if self._unusable:
                producer = self._replace_producer(producer)
            # flush does not wait for a batch to fill
            self._serve(producer.flush if self._flushing else producer.poll, _POLL_SECONDS)
            for record in self._held:
                while self._advance(record):
                    pass
            while self._refused:
                self._reported(*self._refused.popleft())
            self._log_failures()
            if stop.is_set():  # on_error closed the client: what was waiting is reported from here
                self._serve(producer.flush, _PURGE_SECONDS)

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Let reports come. Here a fatal error is raised; as SystemError, where a report came right after it."""
        try:
            call(seconds)
        except (KafkaException, SystemError):
            self._unusable = True

    def _advance(self, record: str) -> bool:
        """Produce or fail the first held event of a record; False where there is none, or it has to wait."""
        with self._lock:
            held = self._held[record]
            if not held:
                return False
            deadline, event = held[0]
            if not self._giving_up:
                if self._produce(event, deadline):
                    held.popleft()
                    return True
                if time.monotonic() < deadline:
                    return False
            held.popleft()
        if self._giving_up:
            error = DeliveryFailed("closed", "the client was closed before this event could be sent")
        elif event.record in self._ids:
            error = self._failure(event, KafkaError(KafkaError._MSG_TIMED_OUT))
        else:
            error = DeliveryFailed(
                "no_schema_id",
                f"no schema id for {self._topics[record]} within {self._timeout:g} s: {self._schema_error}; "
                "check SCHEMA_REGISTRY_URL",
            )
        self._settle(event, error)
        return True

    def _replace_producer(self, old: Producer) -> Producer:
        """An idempotent producer refuses everything after a fatal error, and one that lost all brokers may never find
        them again (librdkafka's issue 5301): go on with a new one. What this one has not delivered is held for that.
        """
        try:
            new = self._new_producer()
        except FlybackError as error:  # a certificate that is not there at this moment, no more files
            if str(error) != self._cannot_replace:
                self._cannot_replace = str(error)
                _log.warning("Kafka's client has to be replaced, and cannot be: %s", error)
            self._stop.wait(_FIRST_RETRY_SECONDS)
            return old
        old.purge()
        enough = time.monotonic() + _PURGE_SECONDS
        while len(old) and time.monotonic() < enough:  # not flush, which swallows reports after a fatal error
            self._serve(old.poll, _POLL_SECONDS)
        now = time.monotonic()
        with self._lock:
            if self._giving_up or self._stop.is_set():
                return old
            late = [sending for sending in self._under_way if sending.deadline <= now]
            for sending in reversed(self._under_way):
                if sending.deadline > now:
                    self._held[sending.event.record].appendleft((sending.deadline, sending.event))
            self._under_way = dict.fromkeys(late)
            self._producer = new
            self._unusable = False
            self._acknowledged_at = now
        for sending in late:
            self._reported(sending, KafkaError(KafkaError._MSG_TIMED_OUT))
        _log.warning("Kafka's client met a fatal error, or acknowledged nothing in time, and was replaced")
        return new

    def _reported(self, sending: _Sending, error: KafkaError | None, message: Message | None = None) -> None:
        """A copy does no harm, a loss does: what may not have arrived is sent again until its deadline."""
        now, code = time.monotonic(), "" if error is None else error.name()
        with self._lock:
            if sending not in self._under_way:
                return  # it goes through another client by now
            if not self._giving_up and code in (*_PURGED, *_OF_THE_CLIENT):
                self._unusable = True  # where it was purged it is being replaced already
                return  # to be taken along
            del self._under_way[sending]
            # concluded from what was sent later, as librdkafka does where it knows of no offset: that may be wrong
            unsure = error is None and message is not None and message.offset() is None
            if unsure and not self._giving_up and now < sending.deadline:
                if not self._produce(sending.event, sending.deadline):
                    self._held[sending.event.record].append((sending.deadline, sending.event))
                return
            if error is None and not unsure:
                self._acknowledged_at = now
        if unsure:
            error = KafkaError(KafkaError._MSG_TIMED_OUT)
        self._settle(sending.event, None if error is None else self._failure(sending.event, error))
        if code == "_MSG_TIMED_OUT" and now - self._acknowledged_at > self._timeout:
            self._unusable = True

    def _failure(self, event: Outgoing, error: KafkaError) -> DeliveryFailed:
        code, topic = error.name(), self._topics[event.record]
        if code in _MISSING_TOPIC and self._login.refused:
            text = f"{topic}: not acknowledged within {self._timeout:g} s: {self._login.refused}"
        elif code in _MISSING_TOPIC:
            text = (
                f"{topic}: not acknowledged within {self._timeout:g} s ({error.str()}): does Kafka answer at "
                f"{self._settings.bootstrap_servers}, and does the topic exist? `flyback topics create` makes it"
            )
        elif code in _PURGED:
            text = f"{topic}: the client was closed before Kafka acknowledged this event; it may have arrived or not"
        else:
            text = f"{topic}: {error.str()}"
        return DeliveryFailed(code, text)

    def _settle(self, event: Outgoing, error: DeliveryFailed | None) -> None:
        with self._lock:
            self._waiting -= 1
            self._bytes -= event.size
            self._sent += error is None
            self._failed += error is not None
            if error is None:
                self._login.refused = None
            self._telling += 1  # flush returns only after on_error has been told
        if error is not None:
            self._tell(event, error)
        with self._settled:
            self._telling -= 1
            if not self._waiting and not self._telling:
                self._settled.notify_all()

    def _tell(self, event: Outgoing, error: DeliveryFailed) -> None:
        self._last_error = error
        if self._on_error is None:
            return
        try:
            self._on_error(event.kind, event.ids, error)
        except BaseException as raised:  # SystemExit too would end the delivery of all later events
            if not self._callback_raised:
                self._callback_raised = True
                _log.warning("on_error raised %s; this is logged once", type(raised).__name__, exc_info=raised)

    def _log_failures(self, final: bool = False) -> None:
        """One line a minute at most: how many events failed since the last one, and the last reason."""
        failed, now = self._failed - self._logged_failures, time.monotonic()
        if not failed or not (final or now - self._logged_at >= _LOG_SECONDS):
            return
        self._logged_failures, self._logged_at = self._failed, now
        _log.warning("events not delivered: %d; the last: %s", failed, self._last_error)

    def _after_fork(self) -> None:
        """In the child: librdkafka's threads do not exist here, and the events are still the parent's to send."""
        if self._producer is not None:
            import ctypes

            # Freeing it could wait for ever for a lock that one of them held: this reference is never given back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        self._start_empty()


_ALL: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _after_fork() -> None:
    for delivery in list(_ALL):
        delivery._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
