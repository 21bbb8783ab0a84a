"""From consumed messages to valid events, whole batches at once.

What is certainly valid comes from `flyback.schemas.certain`; `flyback.schemas.intake` decides about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import certain, certify, intake, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.content import fingerprint_of
from flyback.settings import Settings
from flyback.streams import clients, state
from flyback.streams.clients import Headers
from flyback.streams.join import FEEDBACK_ID, Arrived
from flyback.streams.matcher import Message
from flyback.streams.outputs import TRACEPARENT
from flyback.streams.rates import MINUTE, Cell, Judgement, judgement_of

Refusal = tuple[clients.Message, InvalidEvent]


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

    def admit(self, topic: str, messages: Sequence[clients.Message]) -> tuple[list[Message], list[Refusal]]:
        """The valid events of one topic's messages in their order, and the others with the reason.

        Raises UnknownSchema and RegistryUnavailable, to try again.
        """
        record = self._records[topic]
        rows, doubtful = certain.rows(
            record,
            [message.value() for message in messages],
            [message.key() for message in messages],
            [message.partition() for message in messages],
            self._partitions[topic],
            self._settings.max_event_bytes,
            self._catalog,
        )
        admitted: dict[int, Message] = {}
        for part in rows:
            found = _admitted(record, topic, part, [messages[i] for i in part.positions])
            if len(part.positions) == len(messages) and not self._unknown_since:
                return list(found), []
            admitted.update(zip(part.positions, found, strict=True))
        refused = []
        for i in doubtful:
            try:
                admitted[i] = self._accept(messages[i])
            except InvalidEvent as error:
                refused.append((messages[i], error))
        if self._unknown_since:
            for message in admitted.values():
                self._unknown_since.pop(wire.schema_id(message.value), None)
        return [admitted[i] for i in sorted(admitted)], refused

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


def _admitted(record: str, topic: str, rows: certain.Rows, messages: list[clients.Message]) -> Iterable[Message]:
    """The messages of rows that are certain. No event is decoded to a dictionary before somebody wants it."""
    batch, count = rows.batch, len(messages)
    values = [message.value() or b"" for message in messages]
    task_ids, prediction_ids = batch.column("task_id").to_pylist(), batch.column("prediction_id").to_pylist()
    cells: Iterable[Cell | None] = repeat(None, count)
    judgements: Iterable[Judgement | None] = repeat(None, count)
    contents: Iterable[bytes] = repeat(b"", count)
    if record == "Prediction":
        keys: Iterable[bytes] = map(state.prediction_key, task_ids, prediction_ids)
        cells = _cells(batch)
    else:
        episodes = map(state.episode_of, task_ids, prediction_ids)
        keys = map(state.feedback_key, episodes, repeat(record), batch.column(FEEDBACK_ID[record]).to_pylist())
        judgements = _judgements(record, batch)
        in_order = certify.maps_in_order(batch).to_pylist()
        contents = [fingerprint_of(value) if own else b"" for value, own in zip(values, in_order, strict=True)]
    headers = [wire.headers(message) for message in messages]
    return map(
        Message,
        repeat(record),
        repeat(topic),
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [message.timestamp()[1] for message in messages],
        task_ids,
        keys,
        cells,
        judgements,
        contents,
        values,
        repeat(rows.schema),
        map(_trace, headers),
        headers,
    )


def _judgements(record: str, batch: pa.RecordBatch) -> list[Judgement | None]:
    """What each feedback says, as `rates.judgement_of` has it."""
    names = {
        "Correction": ("authority", "occurred_at", "correction_id", "verdict", "sampling_probability"),
        "Grade": ("grade_id", "passed", "sampling_probability"),
    }[record]
    columns = (batch.column(name).to_pylist() for name in names)
    return [judgement_of(record, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _cells(batch: pa.RecordBatch) -> Iterator[Cell]:
    """The cell of each prediction, as `rates.cell_of` says."""
    actor = batch.column("actor")
    return map(
        Cell,
        [time // MINUTE * MINUTE for time in batch.column("occurred_at").to_pylist()],
        *(pc.struct_field(actor, name).to_pylist() for name in ("kind", "name", "version")),
        batch.column("segment").to_pylist(),
    )


def _trace(headers: Headers) -> bytes:
    return next((content or b"" for name, content in headers if name == TRACEPARENT), b"") if headers else b""
