"""`failure-rates.v1` as the table that alert rules look at."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

from confluent_kafka import OFFSET_BEGINNING

from flyback.schemas.catalog import Catalog
from flyback.streams import rate_cells
from flyback.streams.alerts.rules import Rule, horizon
from flyback.streams.alerts.table import Table
from flyback.streams.clients import Clients, Cluster, Message
from flyback.streams.log_tail import LogTail
from flyback.streams.rates import MINUTE, Cell, Counts

_HOUR = 60 * MINUTE
_PACKED = struct.Struct(f"{len(Counts._fields)}q")
_NOTHING = _PACKED.pack(*Counts())


class RateTable:
    """Follows the topic from its begin; memory for every count that some rule looks at, about 300 bytes each."""

    def __init__(self, clients: Clients, topic: str, catalog: Catalog, rules: Iterable[Rule], cluster: Cluster) -> None:
        """Raises KafkaException. Nothing is read yet."""
        kept = tuple(rules)
        self.table = Table(kept)
        self._topic = topic
        self._catalog = catalog
        self._horizon = horizon(kept) * MINUTE
        # what counts are in the table, by hour and key of the message
        self._known: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._later: list[Message] = []
        starts = dict.fromkeys(((topic, number) for number in range(cluster.partitions[topic])), OFFSET_BEGINNING)
        self._tail = LogTail(clients, starts, cluster.tells_log_ends)

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
        for hour in [hour for hour in self._known if hour < (now - self._horizon) // _HOUR]:
            del self._known[hour]

    def close(self) -> None:
        self._tail.close()

    def _is_looked_at(self, key: bytes, now: int) -> bool:
        """By the key alone, which is read faster. One that says nothing is left to the reader of messages."""
        try:
            minute = json.loads(key)[1]
        except (ValueError, TypeError, LookupError):
            return True
        return not isinstance(minute, int) or minute // _HOUR >= (now - self._horizon) // _HOUR

    def _take(self, latest: dict[bytes, Message]) -> None:
        messages = [(key, message.partition(), message.value()) for key, message in latest.items()]
        for key, record in rate_cells.read_records(messages, self._catalog, self._topic):
            cell = Cell(*(record[name] for name in Cell._fields))
            counts = Counts(*(record[name] for name in Counts._fields))
            known = self._known[cell.minute // _HOUR]
            self.table.add(cell, counts.minus(Counts(*_PACKED.unpack(known.get(key, _NOTHING)))))
            known[key] = _PACKED.pack(*counts)


def _first(messages: list[Message], more: Iterator[list[Message]]) -> Iterator[list[Message]]:
    yield messages
    yield from more
