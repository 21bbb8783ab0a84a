"""From consumed messages to valid events, whole batches at once.

What is certainly valid comes from `flyback.schemas.certain`; `flyback.schemas.intake` decides about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import certain, certify, intake, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.content import fingerprint_of
from flyback.schemas.rules import MIN_MICROS
from flyback.settings import Settings
from flyback.streams import clients, entries
from flyback.streams.clients import Headers
from flyback.streams.join import FEEDBACK_ID, Arrived
from flyback.streams.messages import Columns, Message, Predictions
from flyback.streams.outputs import TRACEPARENT
from flyback.streams.rates import MINUTE, Cell, Judgement, judgement_of

_FIRST_MINUTE = MIN_MICROS // MINUTE * MINUTE


@dataclass(slots=True)
class Admitted:
    """What messages come to: predictions as columns, other valid events one by one, and what is refused, and why."""

    predictions: list[Predictions] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    refused: list[tuple[clients.Message, InvalidEvent]] = field(default_factory=list)
    latest: int = 0
    """The latest arrival (ms) of all of them."""


class Admission:
    """Decodes and checks the messages of the raw topics, given the Avro record and the partition count of each."""

    def __init__(
        self,
        settings: Settings,
        records: Mapping[str, str],
        partitions: Mapping[str, int],
        catalog: Catalog,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._records = records
        self._partitions = partitions
        self._catalog = catalog
        self._clock = clock
        self._unknown_since: dict[int, float] = {}

    def admit(self, topic: str, messages: Sequence[clients.Message]) -> Admitted:
        """What messages of one partition of a topic come to. Raises UnknownSchema, RegistryUnavailable: try again."""
        record, columns = self._records[topic], _columns(messages)
        found = Admitted(latest=max(columns.arrivals))
        rows, doubtful = certain.rows(
            record,
            columns.values,
            columns.keys,
            [columns.partition] * len(messages),
            self._partitions[topic],
            self._settings.max_event_bytes,
            self._catalog,
        )
        for part in rows:
            own = columns
            if len(part.positions) < len(messages):
                kept = set(part.positions)
                own = columns.where([i in kept for i in range(len(messages))])
            if record == "Prediction":
                found.predictions.append(_predictions(topic, part, own))
            else:
                found.messages += _feedback(record, topic, part, own)
        for i in doubtful:
            try:
                found.messages.append(self._accept(messages[i]))
            except InvalidEvent as error:
                found.refused.append((messages[i], error))
        if self._unknown_since:
            for value in (*(m.value for m in found.messages), *(each.columns.values[0] for each in found.predictions)):
                self._unknown_since.pop(wire.schema_id(value), None)
        return found

    def gave_up(self, schema_id: int) -> bool:
        """Whether this schema id has been unknown for as long as one is waited for."""
        since = self._unknown_since.setdefault(schema_id, self._clock())
        return self._clock() - since >= self._settings.unknown_schema_timeout.total_seconds()

    def _accept(self, message: clients.Message) -> Message:
        topic, partition, value = message.topic(), message.partition(), message.value()
        record = self._records[topic]
        try:
            event = intake.accept(
                record,
                message.key(),
                value,
                partition,
                self._partitions[topic],
                self._settings.max_event_bytes,
                self._catalog,
            )
        except UnknownSchema as error:
            if self.gave_up(error.schema_id) and self._settings.unknown_schema == "dead-letter":
                raise InvalidEvent("unknown_schema", "", f"no schema has the id {error.schema_id}") from None
            raise UnknownSchema(error.schema_id, f"{topic}/{partition}@{message.offset()}") from None
        assert value is not None  # accept() refuses an empty one
        arrived = Arrived(record, event, topic, partition, message.offset(), message.timestamp()[1])
        headers = wire.headers(message)
        return Message.of(arrived, value, self._catalog.schema(wire.schema_id(value)), _trace(headers), headers)


def _columns(messages: Sequence[clients.Message]) -> Columns:
    return Columns(
        messages[0].partition(),
        [message.offset() for message in messages],
        [message.timestamp()[1] for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        wire.all_headers(messages),
    )


def _predictions(topic: str, rows: certain.Rows, columns: Columns) -> Predictions:
    """Rows that are certain, none of them decoded to a dictionary."""
    batch, task_ids = rows.batch, rows.batch.column("task_id")
    keys = entries.episodes_of(task_ids, batch.column("prediction_id"), entries.PREDICTION)
    return Predictions(topic, rows.schema, columns, _traces(columns.headers), task_ids, keys, *_cells(batch))


def _feedback(record: str, topic: str, rows: certain.Rows, columns: Columns) -> Iterator[Message]:
    """The messages of rows that are certain. No event is decoded to a dictionary before somebody wants it."""
    batch, task_ids = rows.batch, rows.batch.column("task_id")
    episodes = entries.episodes_of(task_ids, batch.column("prediction_id"))
    in_order = certify.maps_in_order(batch).to_pylist()
    return map(
        Message,
        repeat(record),
        repeat(topic),
        repeat(columns.partition),
        columns.offsets,
        columns.arrivals,
        task_ids.to_pylist(),
        map(entries.feedback_key, episodes, repeat(record), batch.column(FEEDBACK_ID[record]).to_pylist()),
        repeat(None),
        _judgements(record, batch),
        [fingerprint_of(value) if own else b"" for value, own in zip(columns.values, in_order, strict=True)],
        columns.values,
        repeat(rows.schema),
        _traces(columns.headers),
        columns.headers,
    )


def _judgements(record: str, batch: pa.RecordBatch) -> list[Judgement | None]:
    """What each feedback says, as `rates.judgement_of` has it."""
    names = {
        "Correction": ("authority", "occurred_at", "correction_id", "verdict", "sampling_probability"),
        "Grade": ("grade_id", "passed", "sampling_probability"),
    }[record]
    columns = (batch.column(name).to_pylist() for name in names)
    return [judgement_of(record, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _cells(batch: pa.RecordBatch) -> tuple[list[Cell], list[int]]:
    """The different cells, as `rates.cell_of` says, and which of them each prediction is counted in."""
    minutes = pc.divide(pc.subtract(batch.column("occurred_at"), _FIRST_MINUTE), MINUTE)  # none is negative
    actor = batch.column("actor")
    parts = [minutes, *(pc.struct_field(actor, name) for name in ("kind", "name", "version")), batch.column("segment")]
    places = pc.dictionary_encode(parts[0]).indices
    for part in map(pc.dictionary_encode, parts[1:]):
        both = pc.add(pc.multiply(places.cast(pa.int64()), len(part.dictionary)), part.indices)
        places = pc.dictionary_encode(both).indices
    found: list[int] = places.to_pylist()
    first = dict(zip(reversed(found), range(len(found) - 1, -1, -1), strict=True))
    firsts = pa.array([first[place] for place in range(len(first))], pa.int64())
    columns = [part.take(firsts).to_pylist() for part in parts]
    return [Cell(_FIRST_MINUTE + minute * MINUTE, *rest) for minute, *rest in zip(*columns, strict=True)], found


def _traces(headers: Sequence[Headers]) -> list[bytes]:
    return [_trace(each) for each in headers] if any(headers) else [b""] * len(headers)


def _trace(headers: Headers) -> bytes:
    return next((content or b"" for name, content in headers if name == TRACEPARENT), b"") if headers else b""
