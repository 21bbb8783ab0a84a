"""What one client can do: produce, send through the SDK, consume."""

from __future__ import annotations

import logging
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from flyback import history
from flyback.bench.events import CORRECTED, Events
from flyback.bench.measure import Part, Plan, Progress, Sent, at_percent, own_moment, part
from flyback.client import Client
from flyback.content import model
from flyback.delivery import producer_config
from flyback.errors import BrokerError, BufferFull
from flyback.settings import Settings
from flyback.streams.topology import Topology

PATIENCE = 60.0
_ONE_BY_ONE, _ONE_BY_ONE_SECONDS = 200, 2.0
_REPORT_EVERY = 2_000
_FULL_SECONDS = 0.005


class Plain:
    """A plain idempotent producer with the SDK's settings for delivery. Its events are numbered by how many were sent.

    A context manager: nothing is sent after it, since that could make topics anew that are being deleted. It raises
    BrokerError for a fatal error of Kafka's client.
    """

    def __init__(self, settings: Settings, events: Events, sent: Sent) -> None:
        self._failures: list[str] = []
        more = {"delivery.report.only.error": True, "on_delivery": self._reported, "log_level": 0}
        self._log = _Log()
        self._producer: Producer | None = Producer(producer_config(settings) | more, logger=self._log)
        self._events = events
        self._sent = sent
        topology = Topology(settings)
        self._topics = topology.topic_of("Prediction"), topology.topic_of("Correction")

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._producer is not None:
            self._producer.purge()
        self._producer = None
        # as SystemError where a report came right after the fatal error
        cause = error.__cause__ if isinstance(error, SystemError) else error
        if isinstance(cause, KafkaException):
            raise BrokerError(f"events cannot be sent: {cause.args[0].str()}") from error

    def predict(self) -> None:
        """Send the next prediction, waiting while the buffer is full."""
        self._send(self._topics[0], *self._events.prediction(self._sent.events))
        self._sent.predictions += 1

    def correct(self, number: int) -> None:
        """Send a correction of the prediction of that number."""
        self._send(self._topics[1], *self._events.correction(number))
        self._sent.corrections += 1

    def flush(self) -> None:
        """Wait until everything is acknowledged. Raises BrokerError where something is not."""
        assert self._producer is not None
        try:
            left = self._producer.flush(PATIENCE)
        except SystemError:  # a fatal error is lost where reports come right after it: the log still has it
            self._producer.poll(0)
            if not self._log.last:
                raise
            raise BrokerError(f"events cannot be sent: {self._log.last}") from None
        if left or self._failures:
            why = self._failures[0] if self._failures else f"Kafka did not take them in {PATIENCE:g} s"
            raise BrokerError(f"{left + len(self._failures)} events could not be sent: {why}")

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        assert self._producer is not None
        while True:
            try:
                self._producer.produce(topic, value, key)
                return
            except BufferError:
                self._producer.poll(_FULL_SECONDS)

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(error.str())


class _Log(logging.Logger):
    """Keeps the last line."""

    def __init__(self) -> None:
        super().__init__("flyback.bench.kafka")
        self.last = ""

    def handle(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def produce(settings: Settings, plan: Plan, events: Events, sent: Sent, progress: Progress) -> Part:
    """As fast as Kafka takes them; before that some one by one, to see how long an acknowledgement takes."""
    with Plain(settings, events, sent) as producer:
        producer.predict()
        producer.flush()  # connected by then
        took: list[float] = []
        enough = time.monotonic() + _ONE_BY_ONE_SECONDS
        while len(took) < _ONE_BY_ONE and time.monotonic() < enough:
            began = time.perf_counter()
            producer.predict()
            producer.flush()
            took.append(1000 * (time.perf_counter() - began))
        before, begun, deadline = sent.events, own_moment(), plan.deadline
        while (done := sent.events - before) < plan.bulk:
            if sent.events % 10 == CORRECTED:
                producer.correct(sent.events - CORRECTED)
            else:
                producer.predict()
            if done % _REPORT_EVERY == 0:
                progress("produce", done, plan.bulk)
                if time.monotonic() > deadline:
                    break
        producer.flush()
        done = sent.events - before
        acks = {"ack_p50_ms": at_percent(took, 50), "ack_p99_ms": at_percent(took, 99)}
        found = part("produce", done, plan.event_bytes, begun, own_moment(), **acks)
    progress("produce", done, done)
    return found


def predict(settings: Settings, plan: Plan, events: Events, sent: Sent, progress: Progress) -> Part:
    """A service that calls `predict()` as fast as it can."""
    actor, took, full = model("model-1", "1"), [], 0
    before = sent.predictions
    with Client(settings) as client:
        begun, deadline = own_moment(), plan.deadline
        while (done := sent.predictions - before) < plan.by_sdk:
            began = time.perf_counter()
            try:
                client.predict(actor=actor, **events.answer(sent.events))
            except BufferFull:
                full += 1
                time.sleep(_FULL_SECONDS)
                continue
            took.append(1e6 * (time.perf_counter() - began))
            sent.predictions += 1
            if done % _REPORT_EVERY == 0:
                progress("sdk", done, plan.by_sdk)
                if time.monotonic() > deadline:
                    break
        left = client.flush(PATIENCE)
        ended, stats = own_moment(), client.stats()
    if left or stats.failed:
        raise BrokerError(f"{left + stats.failed} of {len(took)} events that the SDK took did not reach Kafka")
    progress("sdk", len(took), len(took))
    calls = {"call_p50_us": at_percent(took, 50), "call_p99_us": at_percent(took, 99), "buffer_full": full}
    return part("sdk", len(took), plan.event_bytes, begun, ended, **calls)


def consume(settings: Settings, plan: Plan, sent: Sent, progress: Progress) -> Part:
    """A plain consumer from the start of the raw topics. Raises BrokerError where they do not hold what was sent."""
    ends = {place: end for place, (_, end) in history.bounds(settings, Topology(settings).raw).items() if end}
    if (there := sum(ends.values())) != sent.events:
        raise BrokerError(f"{sent.events} events were acknowledged, but the topics hold {there}")
    consumer = Consumer(settings.kafka(group_id=settings.group, enable_auto_commit=False) | {"log_level": 0})
    try:
        begun, deadline, done, moved_at = own_moment(), plan.deadline, 0, time.monotonic()
        consumer.assign([TopicPartition(*place, 0) for place in ends])
        while done < there and time.monotonic() < deadline:
            for message in consumer.consume(min(5_000, there - done), 0.5):
                if (error := message.error()) is None:
                    done, moved_at = done + 1, time.monotonic()
                elif not error.retriable():
                    raise BrokerError(f"cannot consume what was produced: {error.str()}")
            progress("consume", done, there)
            if time.monotonic() - moved_at > PATIENCE:
                raise BrokerError(f"{done} of {there} events were consumed, and none more for {PATIENCE:g} s")
        found = part("consume", done, plan.event_bytes, begun, own_moment())
    finally:
        consumer.close()
    progress("consume", done, done)
    return found
