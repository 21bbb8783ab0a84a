"""From the calling thread to Kafka without making it wait: a bounded buffer and one background thread.

An event goes straight into librdkafka's queue. It is *held* here first while its schema id is not known yet (the
registry is asked by a thread of its own), so neither Kafka nor a registry has to be up when a service starts. What
is held and what librdkafka has not delivered count together against `buffer_events` and `buffer_bytes`.
"""

from __future__ import annotations

import atexit
import copy
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flyback.errors import BufferFull, ConfigurationError, DeliveryFailed, FlybackError
from flyback.failures import PURGED, Failures, OnError, undelivered
from flyback.login import Login
from flyback.outgoing import Outgoing, Stats
from flyback.schema_ids import SchemaIds

if TYPE_CHECKING:
    from flyback.settings import Settings
    from flyback.streams.topology import Topology

HEADER_ROOM = 65_536
"""Bytes that a message may have besides its value: key and headers. The topics allow as much."""
_POLL_SECONDS = 0.1
_PURGE_SECONDS = 5.0
_RETRY_SECONDS = 0.25
_OF_THE_CLIENT = ("_FATAL", "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "_INCONSISTENT")
"""Errors after which an idempotent producer refuses everything."""

# Not structlog: this runs inside other people's services, and structlog that nobody configured prints to stdout.
# `flyback.logs.configure` renders these lines like all others.
_log = logging.getLogger("flyback.client")
# librdkafka's own lines: through the service's logging or not at all, but never bare on stderr.
_kafka_log = logging.getLogger("flyback.kafka")
_kafka_log.addHandler(logging.NullHandler())


def producer_config(settings: Settings) -> dict[str, Any]:
    """Of Kafka's client as the SDK sends with it."""
    return settings.kafka(
        client_id="flyback-client",
        enable_idempotence=True,
        acks="all",
        partitioner="murmur2_random",
        compression_type=settings.compression,
        linger_ms=settings.linger.total_seconds() * 1000,
        message_timeout_ms=round(settings.delivery_timeout.total_seconds() * 1000),
        message_max_bytes=settings.max_event_bytes + HEADER_ROOM,
        queue_buffering_max_messages=settings.buffer_events,
        queue_buffering_max_kbytes=-(-settings.buffer_bytes // 1024),
    )


class Delivery:
    """Thread-safe. A forked child starts with an empty buffer and a producer of its own, made when first used."""

    def __init__(
        self, settings: Settings, topology: Topology, records: tuple[str, ...], on_error: OnError | None
    ) -> None:
        self._settings = settings
        self._topics = {record: topology.topic_of(record) for record in records}
        self._schemas = SchemaIds(settings, self._topics)
        self._timeout = settings.delivery_timeout.total_seconds()
        self._on_error = on_error
        self._closed = False
        self._report = self._reported  # bound once: each access makes another object
        self._start_empty()
        with self._lock:
            self._start()
        atexit.register(self.close)
        _ALL.add(self)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._held: dict[str, deque[Outgoing]] = {record: deque() for record in self._topics}
        self._under_way: dict[Outgoing, None] = {}
        self._refused: deque[tuple[Outgoing, KafkaError]] = deque()
        self._login = Login(self._settings, _log.warning)
        self._failures = Failures(self._on_error)
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

    def hand_over(self, event: Outgoing) -> None:
        """Take one event without waiting. Raises BufferFull, and FlybackError after `close`."""
        settings = self._settings
        with self._lock:
            if self._closed:
                raise FlybackError("this Client is closed: make a new one")
            if self._waiting >= settings.buffer_events or self._bytes + event.size > settings.buffer_bytes:
                raise BufferFull(
                    f"{self._waiting} events ({self._bytes} bytes) wait for delivery: retry later, or raise "
                    "FLYBACK_BUFFER_EVENTS or FLYBACK_BUFFER_BYTES"
                )
            if self._producer is None:
                self._start()
            self._waiting += 1
            self._bytes += event.size
            event.deadline = time.monotonic() + self._timeout
            event.report = self._report
            held = self._held[event.record]
            if held or not self._produce(event):
                held.append(event)

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
            for event in list(self._under_way):  # none, unless reports were swallowed
                self._reported(event, KafkaError(KafkaError._PURGE_INFLIGHT))
        self._failures.log(self._failed, final=True)
        with self._lock:
            self._producer = None
        return left

    def _start(self) -> None:
        """Producer and threads. Called with the lock held; connects to nothing, so it does not wait."""
        self._producer = self._new_producer()
        self._schemas.learn(self._stop)
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="flyback-delivery", daemon=True)
        self._thread.start()

    def _new_producer(self) -> Producer:
        try:
            return Producer(producer_config(self._settings) | {"error_cb": self._login}, logger=_kafka_log)
        except KafkaException as error:
            raise ConfigurationError(f"Kafka's client refuses these settings: {error.args[0].str()}") from None

    def _produce(self, event: Outgoing) -> bool:
        """Give the event to librdkafka, which copies it; False where it must be held. Called with the lock held."""
        frame = self._schemas.frames.get(event.record)
        if frame is None or self._producer is None or self._unusable:
            return False
        self._under_way[event] = None
        try:
            self._producer.produce(
                self._topics[event.record],
                frame + event.body,
                event.key,
                headers=event.headers,
                on_delivery=event,
            )
        except BufferError:  # librdkafka frees the room of a delivered event a moment after it reports it
            del self._under_way[event]
            return False
        except KafkaException as error:
            if error.args[0].name() in _OF_THE_CLIENT:
                del self._under_way[event]
                self._unusable = True
                return False
            self._refused.append((event, error.args[0]))
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
            self._failures.log(self._failed)
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
            event = held[0]
            if not self._giving_up:
                if self._produce(event):
                    held.popleft()
                    return True
                if time.monotonic() < event.deadline:
                    return False
            held.popleft()
        if self._giving_up:
            error = DeliveryFailed("closed", "the client was closed before this event could be sent")
        elif record in self._schemas.frames:
            error = self._explained(event, KafkaError(KafkaError._MSG_TIMED_OUT))
        else:
            error = DeliveryFailed(
                "no_schema_id",
                f"no schema id for {self._topics[record]} within {self._timeout:g} s: {self._schemas.error}; "
                "check SCHEMA_REGISTRY_URL",
            )
        self._fail(event, error)
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
            self._stop.wait(_RETRY_SECONDS)
            return old
        old.purge()
        enough = time.monotonic() + _PURGE_SECONDS
        while len(old) and time.monotonic() < enough:  # not flush, which swallows reports after a fatal error
            self._serve(old.poll, _POLL_SECONDS)
        now = time.monotonic()
        with self._lock:
            if self._giving_up or self._stop.is_set():
                return old
            late = [event for event in self._under_way if event.deadline <= now]
            for event in reversed(self._under_way):
                if event.deadline > now:
                    # a copy, since the old client may still report on the event itself
                    self._held[event.record].appendleft(copy.copy(event))
            self._under_way = dict.fromkeys(late)
            self._producer = new
            self._unusable = False
            self._acknowledged_at = now
        for event in late:
            self._reported(event, KafkaError(KafkaError._MSG_TIMED_OUT))
        _log.warning("Kafka's client met a fatal error, or acknowledged nothing in time, and was replaced")
        return new

    def _reported(self, event: Outgoing, error: KafkaError | None, message: Message | None = None) -> None:
        """What became of an event, as a client of Kafka says."""
        if error is not None or message is None or message.offset() is None:
            self._not_acknowledged(event, error)
            return
        with self._lock:
            if event not in self._under_way:
                return  # it goes through another client by now
            del self._under_way[event]
            self._acknowledged_at = time.monotonic()
            self._login.refused = None
            self._sent += 1
            self._release(event)
            self._notify()

    def _not_acknowledged(self, event: Outgoing, error: KafkaError | None) -> None:
        """A copy does no harm, a loss does: what may not have arrived is sent again until its deadline.

        Without an error it was concluded from what was sent later, as librdkafka does where it knows of no offset:
        that may be wrong.
        """
        now, code = time.monotonic(), "" if error is None else error.name()
        with self._lock:
            if event not in self._under_way:
                return  # it goes through another client by now
            if not self._giving_up and (code in PURGED or code in _OF_THE_CLIENT):
                self._unusable = True  # where it was purged it is being replaced already
                return  # to be taken along
            del self._under_way[event]
            if error is None and not self._giving_up and now < event.deadline:
                if not self._produce(again := copy.copy(event)):
                    self._held[event.record].append(again)
                return
        self._fail(event, self._explained(event, error or KafkaError(KafkaError._MSG_TIMED_OUT)))
        if code == "_MSG_TIMED_OUT" and now - self._acknowledged_at > self._timeout:
            self._unusable = True

    def _explained(self, event: Outgoing, error: KafkaError) -> DeliveryFailed:
        settings, topic = self._settings, self._topics[event.record]
        return undelivered(error, topic, self._timeout, settings.bootstrap_servers, self._login.refused)

    def _fail(self, event: Outgoing, error: DeliveryFailed) -> None:
        with self._lock:
            self._failed += 1
            self._release(event)
            self._telling += 1  # flush returns only after on_error has been told
        self._failures.tell(event, error)
        with self._lock:
            self._telling -= 1
            self._notify()

    def _release(self, event: Outgoing) -> None:
        """Give its room in the buffer back. Called with the lock held."""
        self._waiting -= 1
        self._bytes -= event.size

    def _notify(self) -> None:
        """Wake who waits in `flush`, if there is nothing to wait for any more. Called with the lock held."""
        if not self._waiting and not self._telling:
            self._settled.notify_all()

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
