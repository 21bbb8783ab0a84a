"""An encoded event on its way, and what becomes of such events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flyback.schemas import wire

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events handed over since the client was made (in a forked child: since the fork).

    `sent` and `failed` count events, `waiting` those that are neither yet, `bytes` what these occupy.
    """

    sent: int
    failed: int
    waiting: int
    bytes: int


@dataclass(slots=True, eq=False)  # two of the same content are two: one may be sent again where the other was lost
class Outgoing:
    """One encoded event, in the hands of one client of Kafka; a copy of it may go through another one.

    `body` is its Avro body, without the schema id: with a registry that may be known later. `size` is what it occupies
    of a buffer, in bytes; `deadline` (monotonic) is until when it may be sent. What a client of Kafka reports of it
    goes to `report`: it is its own callback, since another object for each that waits would cost 1 µs of the garbage
    collector's time.
    """

    kind: str
    record: str
    ids: Mapping[str, str]
    key: bytes
    body: bytes
    headers: list[tuple[str, str | bytes | None]] | None  # as confluent-kafka types it; an empty list costs it time
    size: int = field(init=False)
    deadline: float = field(init=False)
    report: Callable[[Outgoing, KafkaError | None, Message | None], None] = field(init=False)

    def __post_init__(self) -> None:
        self.size = wire.HEADER + len(self.body) + len(self.key)
        if self.headers:
            self.size += sum(len(value or b"") for _, value in self.headers)

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        self.report(self, error, message)
