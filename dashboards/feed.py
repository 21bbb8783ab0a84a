"""Follows `failure-rates.v1` into a RateStore: read by itself, without a group, so that any number of viewers may."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flyback.dashboards.rate_store import RateStore
from flyback.errors import BrokerError, FlybackError, RegistryUnavailable, UnknownSchema
from flyback.login import Login
from flyback.logs import get_logger
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.sinks.decode import Decoder
from flyback.sinks.message import Messages
from flyback.streams.topology import Topology

log = get_logger(__name__)

RECORD = "FailureRate"
_BATCH, _MOST = 5_000, 50_000  # messages of one call, and of one write into the table
_TICK = 0.5  # seconds that messages are gathered for
_QUIET = 2.0  # seconds without a message after which the broker is asked whether it is there
_ANSWER = 2.0
_AGAIN = (0.25, 5.0)  # seconds between two attempts, twice as long each time


@dataclass(frozen=True)
class Following:
    """How far the feed is. `phase`: loading, live, or waiting (for what `error` says).

    `at`: monotonic seconds when it last knew that it had everything.
    """

    phase: str = "loading"
    read: int = 0
    to_read: int = 0
    skipped: int = 0
    error: str | None = None
    at: float | None = None

    def plain(self, now: float) -> dict[str, Any]:
        """For JSON; `age` is how many seconds ago everything was there."""
        age = None if self.at is None else round(max(0.0, now - self.at), 1)
        return {name: value for name, value in asdict(self).items() if name != "at"} | {"age": age}


class Feed:
    """A thread that reads from the topic's begin and goes on for ever. A context manager."""

    def __init__(
        self, settings: Settings, catalog: Catalog, store: RateStore, changed: Callable[[], object] = lambda: None
    ) -> None:
        """`changed` is called by the thread whenever there is something new in the store."""
        self.following = Following()
        self._settings = settings
        self._catalog = catalog
        self._store = store
        self._changed = changed
        self._topic = Topology(settings).topic_of(RECORD)
        self._next: dict[int, int] = {}  # offsets by partition
        self._behind: set[int] = set()  # partitions whose end this consumer has not met yet
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="failure-rates", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def until_live(self, seconds: float) -> None:
        """Wait until everything that was there is read. Raises BrokerError with what it waits for."""
        deadline = time.monotonic() + seconds
        while self.following.phase != "live":
            if time.monotonic() > deadline:
                raise BrokerError(self.following.error or f"{self._topic} was not read within {seconds:g} s")
            time.sleep(0.02)

    def _run(self) -> None:
        pause = _AGAIN[0]
        while not self._stopping.is_set():
            try:
                self._follow()
            except (FlybackError, KafkaException) as error:
                text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                if self.following.phase == "waiting":
                    pause = min(2 * pause, _AGAIN[1])
                else:
                    pause = _AGAIN[0]
                    log.warning("failure rates are not read", reason=text)
                self._now(phase="waiting", error=text)
                self._stopping.wait(pause)

    def _follow(self) -> None:
        """With one consumer, for as long as it gets answers. One that lost its brokers does not always find them."""
        login = Login(self._settings)
        consumer = Consumer(
            self._settings.kafka(
                **{
                    "group.id": f"{self._topic}-reader",  # only a name: nothing is committed
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,  # offsets do not tell: a transaction's end is one nobody gets
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 200,
                }
            )
            | {"error_cb": login},
            logger=logging.getLogger("librdkafka"),
        )
        try:
            ends = self._assign(consumer, login)
            decoder = Decoder(RECORD, len(ends), self._settings.max_event_bytes, self._catalog)
            heard = time.monotonic()
            while not self._stopping.is_set():
                if messages := self._gather(consumer):
                    self._put(decoder, messages)
                    heard = time.monotonic()
                elif time.monotonic() - heard > _QUIET:
                    login.metadata(consumer, _ANSWER)
                    heard = time.monotonic()
                if self._behind:
                    missing = sum(max(0, ends[number] - self._next[number]) for number in self._behind)
                    self._now(phase="loading", error=None, to_read=self.following.read + missing)
                else:
                    self._now(phase="live", error=None, to_read=self.following.read, at=time.monotonic())
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, login: Login) -> dict[int, int]:
        """Take all partitions, from where the consumer before this one was; gives their present ends."""
        there = login.metadata(consumer, _ANSWER).topics
        if self._topic not in there:
            raise BrokerError(f"no topic {self._topic}: type `flyback topics create`")
        ends = {}
        for number in there[self._topic].partitions:
            first, ends[number] = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=_ANSWER)
            self._next[number] = max(first, self._next.get(number, 0))
        self._behind = set(ends)
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in self._next.items()])
        return ends

    def _gather(self, consumer: Consumer) -> list[Message]:
        found: list[Message] = []
        deadline = time.monotonic() + _TICK
        while len(found) < _MOST and (left := deadline - time.monotonic()) > 0 and not self._stopping.is_set():
            for message in consumer.consume(_BATCH, min(left, 0.1)):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._behind.discard(message.partition() or 0)
                elif error.fatal() or error.code() in _LOST:
                    raise BrokerError(f"cannot read {self._topic}: {error.str()}")
        return found

    def _put(self, decoder: Decoder, messages: list[Message]) -> None:
        while not self._stopping.is_set():
            try:
                decoded = decoder.decode(Messages.consumed(self._topic, messages))
            except (UnknownSchema, RegistryUnavailable) as error:
                self._now(phase="waiting", error=str(error))
                self._stopping.wait(_AGAIN[1])
            else:
                break
        else:
            return
        if len(decoded.columns):
            self._store.put(decoded.columns)
        for message in messages:
            self._next[message.partition() or 0] = (message.offset() or 0) + 1
        self._now(read=self.following.read + len(messages), skipped=self.following.skipped + len(decoded.rejected))
        self._changed()

    def _now(self, **changed: Any) -> None:
        self.following = replace(self.following, **changed)


_LOST = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_TOPIC}
