"""`failure-rates.v1` as the table that alert rules look at."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

from confluent_kafka import OFFSET_BEGINNING

from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.streams import rate_cells
from flyback.streams.alerts.rules import Rule, horizon
from flyback.streams.alerts.table import Table
from flyback.streams.clients import Clients, Cluster, Message
from flyback.streams.log_tail import LogTail
from flyback.streams.packed import Packed
from flyback.streams.rates import MINUTE, Cell, Counts

_HOUR = 60 * MINUTE
_PACKED = struct.Struct(f"{len(Counts._fields)}q")
_MOST_OPEN = 300_000
_OPEN_SECONDS = 25.0
"""A worker that was killed leaves a transaction open until it is back, or until the broker ends it: 10 s, by default,
after the transaction's own 10 s. Longer ones are not waited for: alerts shall come."""


class RateTable:
    """Follows the topic from its begin.

    Memory: 300 bytes for each of the 300,000 counts that changed last, some ten for every other one that some rule
    looks at; there is one for each minute, series and partition.
    """

    def __init__(self, clients: Clients, topic: str, catalog: Catalog, rules: Iterable[Rule], cluster: Cluster) -> None:
        """Raises KafkaException. Nothing is read yet."""
        kept = tuple(rules)
        self.table = Table(kept)
        self._topic = topic
        self._catalog = catalog
        self._horizon = horizon(kept) * MINUTE
        # what counts are in the table: by partition and hour, the key of the message
        self._known = Packed[tuple[int, int]](_MOST_OPEN)
        self._later: list[Message] = []
        starts = dict.fromkeys(((topic, number) for number in range(cluster.partitions[topic])), OFFSET_BEGINNING)
        self._tail = LogTail(clients, starts, cluster.tells_log_ends, _OPEN_SECONDS)

    def read(self, until: int) -> Iterator[None]:
        """Take in what was written at `until` (microseconds UTC) or before, by the messages' own times.

        What was written later stays for the next call, so that whoever looks at this time sees the same counts.
        Gives back control after every slice. Raises BrokerError, KafkaException, RegistryUnavailable.
        """
        waiting, self._later = self._later, []
        later = set[bytes | None]()
        for messages in _first(waiting, self._tail.to_the_end()):
            latest = dict[bytes, Message]()
            for message in messages:
                key = message.key() or b""
                if message.timestamp()[1] * 1000 > until or key in later:
                    later.add(key)  # and what follows, lest an older value come after a newer one
                    self._later.append(message)
                elif self._is_looked_at(key, until):
                    latest[key] = message  # a busy cell is written ten times a second
            self._take(latest)
            yield

    def forget(self, now: int) -> None:
        """Drop what no rule looks at any more; worth while once an hour."""
        self.table.forget(now)
        self._known.forget(lambda bucket: bucket[1] < (now - self._horizon) // _HOUR)

    def close(self) -> None:
        self._tail.close()

    def _is_looked_at(self, key: bytes, now: int) -> bool:
        """By the key alone, which is read faster. One that says nothing is left to the reader of messages."""
        try:
            minute = int(key.split(b",", 2)[1])
        except (ValueError, IndexError):
            return True
        return minute // _HOUR >= (now - self._horizon) // _HOUR

    def _take(self, latest: dict[bytes, Message]) -> None:
        messages = [(key, message.partition(), message.value()) for key, message in latest.items()]
        buckets = defaultdict[tuple[int, int], list[tuple[bytes, Record]]](list)
        for key, record in rate_cells.read_records(messages, self._catalog, self._topic):
            buckets[record["partition"], record["minute"] // _HOUR].append((key, record))
        changes = defaultdict[Cell, Counts](Counts)
        for bucket, found in buckets.items():
            known = self._known.open(bucket)
            for key, record in found:
                cell = Cell(self.table.as_minute(record["minute"]), *(record[name] for name in Cell._fields[1:]))
                counts = Counts(*(record[name] for name in Counts._fields))
                before = known.get(key)
                change = counts if before is None else counts.minus(Counts(*_PACKED.unpack(before)))
                changes[cell] = changes[cell].plus(change)
                known[key] = _PACKED.pack(*counts)
        for cell, change in changes.items():
            self.table.add(cell, change)
        self._known.pack()


def _first(messages: list[Message], more: Iterator[list[Message]]) -> Iterator[list[Message]]:
    yield messages
    yield from more
