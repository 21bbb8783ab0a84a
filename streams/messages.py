"""Valid raw events on their way from admission to the matcher: one by one, and predictions as columns.

Nine of ten events are predictions that nobody waits for. They are kept and counted, and that takes no Python object
for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, NamedTuple

import pyarrow as pa

from flyback.schemas import codec, content
from flyback.schemas.codec import Schema
from flyback.streams import entries
from flyback.streams.clients import Headers
from flyback.streams.join import FEEDBACK_ID, Arrived
from flyback.streams.rates import Cell, Judgement, cell_of, judgement_of


class Message(NamedTuple):
    """A valid raw event: where it stands, what it is matched by, and the bytes it came in with their schema.

    All its headers are there only while it is new: the state keeps the trace.
    """

    record: str
    topic: str
    partition: int
    offset: int
    arrived_at: int
    task_id: str
    key: bytes
    """Of its first copy in the state."""
    cell: Cell | None
    """Where a prediction is counted."""
    judgement: Judgement | None
    """What a feedback says."""
    content: bytes
    """The fingerprint of a feedback; b"" where nobody has needed it yet."""
    value: bytes
    schema: Schema
    traceparent: bytes = b""
    headers: Headers = ()

    @classmethod
    def of(
        cls, arrived: Arrived, value: bytes, schema: Schema, traceparent: bytes = b"", headers: Headers = ()
    ) -> Message:
        """The message of an event that is decoded already."""
        event, record = arrived.event, arrived.record
        cell = judgement = None
        if record == "Prediction":
            key = entries.prediction_key(event["task_id"], event["prediction_id"])
            cell = cell_of(event)
        else:
            feedback_id = event[FEEDBACK_ID[record]]
            episode = entries.episode_of(event["task_id"], event["prediction_id"])
            key = entries.feedback_key(episode, record, feedback_id)
            judgement = judgement_of(record, event)
        place = arrived.topic, arrived.partition, arrived.offset, arrived.arrived_at
        return cls(record, *place, event["task_id"], key, cell, judgement, b"", value, schema, traceparent, headers)

    @property
    def episode(self) -> bytes:
        """The key of its episode."""
        return self.key[1:17]

    @property
    def arrived(self) -> Arrived:
        """The event itself, decoded from the bytes."""
        event = codec.decode(self.record, self.value, self.schema)
        return Arrived(self.record, event, self.topic, self.partition, self.offset, self.arrived_at)

    def fingerprint(self) -> bytes:
        """Of its content."""
        return self.content or content.fingerprint(self.record, self.arrived.event)


@dataclass(frozen=True, slots=True)
class Columns:
    """What consumed messages of one partition hold; values and keys are None only where the event is not valid."""

    partition: int
    offsets: list[int]
    arrivals: list[int]
    keys: list[Any]
    values: list[Any]
    headers: Sequence[Headers]

    def where(self, mask: Sequence[bool]) -> Columns:
        """Some of them."""
        lists = self.offsets, self.arrivals, self.keys, self.values, self.headers
        return Columns(self.partition, *(list(compress(each, mask)) for each in lists))


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one topic that were written with one schema. All lists have one element for each of them."""

    topic: str
    schema: Schema
    columns: Columns
    traces: list[bytes]
    task_ids: pa.StringArray
    keys: list[bytes]
    """Of their first copies in the state."""
    cells: list[Cell]
    """The different cells that they are counted in (not one for each)."""
    places: list[int]
    """Which of `cells` it is."""

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, mask: Sequence[bool]) -> Predictions:
        """Some of them."""
        return replace(
            self,
            columns=self.columns.where(mask),
            traces=list(compress(self.traces, mask)),
            task_ids=self.task_ids.filter(pa.array(mask)),
            keys=list(compress(self.keys, mask)),
            places=list(compress(self.places, mask)),
        )

    def entries(self) -> Iterator[bytes]:
        """What the state keeps of each."""
        cell_keys = [entries.cell_key(cell) for cell in self.cells]
        cells = [cell_keys[place] for place in self.places]
        columns = self.columns
        return entries.pack_entries(columns.arrivals, columns.offsets, self.traces, cells, columns.values)

    def message(self, i: int) -> Message:
        """One of them by itself."""
        raw = self.columns
        return Message(
            "Prediction",
            self.topic,
            raw.partition,
            raw.offsets[i],
            raw.arrivals[i],
            self.task_ids[i].as_py(),
            self.keys[i],
            self.cells[self.places[i]],
            None,
            b"",
            raw.values[i],
            self.schema,
            self.traces[i],
            raw.headers[i],
        )
