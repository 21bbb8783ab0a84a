"""Reads partitions to where they end, again and again, in no group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaError, TopicPartition

from flyback.errors import BrokerError
from flyback.streams import restore
from flyback.streams.clients import Clients, Consumer, Message

Place = tuple[str, int]
"""A topic's full name and a partition."""

_MANY = 20_000
_WAIT = 0.1
_SILENCE = 30.0


class LogTail:
    """One consumer of committed messages. An end is reached where a message stands before it, or the client says so."""

    def __init__(
        self, clients: Clients, starts: Mapping[Place, int], tells_ends: bool, open_seconds: float = 0.0
    ) -> None:
        """`starts` are offsets; `tells_ends`: the broker knows where logs end (`Cluster.tells_log_ends`).

        Transactions that are open are waited for, so many seconds at most: what was committed behind them cannot be
        read before.
        """
        self._open_seconds = open_seconds
        self._asking = restore.reader(clients, "read_uncommitted") if open_seconds else None
        self._reached = dict.fromkeys(starts, 0)
        self._unmet = set() if tells_ends else set(starts)
        self._consumer = restore.reader(clients)
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in starts.items()])

    def to_the_end(self) -> Iterator[list[Message]]:
        """What is there now and was not read yet, in order within each partition; empty ones while it waits.

        Everything that was committed before the call is in it. Raises BrokerError, KafkaException.
        """
        ends = self._ends(self._consumer)
        written = ends if self._asking is None else self._ends(self._asking)
        begun = heard = time.monotonic()
        while True:
            found = self._consumer.consume(_MANY, 0) or self._consumer.consume(1, _WAIT)
            yield [message for message in found if self._is_event(message)]
            waited = time.monotonic() - begun > self._open_seconds
            if not self._unmet and self._has_reached(ends if waited else written):
                return
            if found:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE:
                behind = [place for place, end in ends.items() if place in self._unmet or self._reached[place] < end]
                names = ", ".join(f"{topic}/{partition}" for topic, partition in behind)
                raise BrokerError(f"nothing came from {names} for {_SILENCE:g} s: is the broker healthy?")

    def end(self, place: Place) -> int:
        """The offset that was reached."""
        return self._reached[place]

    def close(self) -> None:
        self._consumer.close()
        if self._asking is not None:
            self._asking.close()

    def _ends(self, consumer: Consumer) -> dict[Place, int]:
        return {
            place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=restore.LOOK_UP)[1]
            for place in self._reached
        }

    def _has_reached(self, ends: Mapping[Place, int]) -> bool:
        return all(self._reached[place] >= end for place, end in ends.items())

    def _is_event(self, message: Message) -> bool:
        place, error = (message.topic(), message.partition()), message.error()
        if error is None:
            self._reached[place] = message.offset() + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # beyond the last message, where a transaction's end stands
            self._reached[place] = max(self._reached[place], message.offset())
            self._unmet.discard(place)
        else:
            raise BrokerError(f"cannot read {place[0]}/{place[1]}: {error.str()}")
        return False
