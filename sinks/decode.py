"""Messages of one topic to Arrow columns.

Rows that are valid beyond doubt come from `flyback.schemas.certain`, whole batches at once; every other message takes
the slow path, the one that the engine takes too: `flyback.schemas.intake` and fastavro.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import pyarrow as pa

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import certain, codec, intake, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.schemas.rules import CHECKS
from flyback.sinks import columns
from flyback.sinks.message import Message, Messages


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is no row: its position in the batch, one of `intake.REASONS`, and the reason as a sentence."""

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The columns of the valid messages, their positions in the batch (ascending), and the others."""

    columns: pa.Table
    kept: list[int]
    rejected: list[Rejected]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes the messages of one topic. `partitions` is how many the topic has."""

    record: str
    partitions: int
    max_bytes: int
    catalog: Catalog

    @property
    def raw(self) -> bool:
        """Whether the rules for raw events apply."""
        return self.record in CHECKS

    def decode(self, messages: Messages, given_up: Set[int] = frozenset()) -> Decoded:
        """Valid rows and rejected messages. Schema ids in `given_up` are rejected where the catalog does not know them.

        Raises UnknownSchema or RegistryUnavailable; nothing is lost by calling again later.
        """
        found, doubtful = certain.rows(
            self.record,
            messages.values,
            messages.keys,
            messages.partitions,
            self.partitions,
            self.max_bytes,
            self.catalog,
        )
        parts = [(columns.from_avro(self.record, rows.batch), rows.positions) for rows in found]
        accepted, rejected = self._slow(messages, doubtful, given_up)
        parts.append((columns.from_records(self.record, list(accepted.values())), list(accepted)))
        return _in_order(parts, rejected)

    def _slow(
        self, messages: Messages, indices: Sequence[int], given_up: Set[int]
    ) -> tuple[dict[int, Record], list[Rejected]]:
        accepted: dict[int, Record] = {}
        rejected = []
        for i in indices:
            try:
                event = self._reference(messages[i])
                columns.check_range(self.record, event)
                accepted[i] = event
            except InvalidEvent as error:
                rejected.append(Rejected(i, error.reason, str(error)))
            except UnknownSchema as error:
                if error.schema_id not in given_up:
                    raise
                rejected.append(Rejected(i, "unknown_schema", str(error)))
        return accepted, rejected

    def _reference(self, message: Message) -> Record:
        if self.raw:
            return intake.accept(
                self.record,
                message.key,
                message.value,
                message.partition,
                self.partitions,
                self.max_bytes,
                self.catalog,
            )
        writer = self.catalog.schema(wire.schema_id(message.value))
        return codec.decode(self.record, message.value or b"", writer)


def _in_order(parts: list[tuple[pa.Table, list[int]]], rejected: list[Rejected]) -> Decoded:
    """One table with its rows in the order of the messages."""
    table = pa.concat_tables([part for part, _ in parts])
    kept = [i for _, indices in parts for i in indices]
    if kept != sorted(kept):
        order = sorted(range(len(kept)), key=kept.__getitem__)
        table, kept = table.take(pa.array(order)), sorted(kept)
    return Decoded(table, kept, rejected)
