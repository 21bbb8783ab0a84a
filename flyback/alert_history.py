"""Alerts looked back on: what became of those that were written, and what a replay of the rules needs of the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flyback.errors import FlybackError, InvalidEvent, UnknownSchema
from flyback.schemas import codec, wire
from flyback.schemas.codec import Record
from flyback.streams.alerts.replay import Change
from flyback.streams.alerts.states import FIRING, RESOLVED
from flyback.streams.rates import Cell, Counts

if TYPE_CHECKING:
    from confluent_kafka import Message

    from flyback.schemas.catalog import Catalog
    from flyback.sinks.lake import Lake

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def alerts(
    messages: Iterable[Message], catalog: Catalog, passed_over: Callable[[Message, FlybackError], None]
) -> list[dict[str, Any]]:
    """Each alert of `alerts.v1` by its latest record: the open ones first, and what changed last before the rest.

    Beside the record's fields: `since`, when it began, `fired_at`, when it fired (None: never), and `changed_at`, when
    its state began. `passed_over` is told of a message that is none of ours. Raises RegistryUnavailable.
    """
    by_alert: dict[str, list[Record]] = {}
    for message in messages:
        value: Any = message.value() or b""
        try:
            record = codec.decode("Alert", value, catalog.schema(wire.schema_id(value)))
        except (InvalidEvent, UnknownSchema) as error:
            passed_over(message, error)
            continue
        by_alert.setdefault(record["alert_id"], []).append(record)
    found = [_told(records) for records in by_alert.values()]
    return sorted(found, key=lambda alert: (alert["state"] != RESOLVED, alert["changed_at"]), reverse=True)


def changes(lake: Lake, begin: datetime, end: datetime) -> Iterator[Change]:
    """What was added to the counts of minutes from `begin` on, in any order, with the minute by which it was known.

    From every count that the stream wrote, by the time it wrote it, `end` the latest; as the watch does it, none is
    known before one that was written before it.
    """
    labels = '"minute", actor_kind, actor, "version", segment'
    latest = ", ".join(f"arg_max({name}, _offset) AS {name}" for name in Counts._fields)
    added = ", ".join(f"{name} - lag({name}, 1, 0) OVER of_key" for name in Counts._fields)
    found = lake.connection.execute(
        f"""
        WITH by_minute AS (
            SELECT
                "partition", {labels}, {latest}, max(_offset) AS latest_offset,
                date_trunc('minute', _arrived_at - INTERVAL 1 microsecond) + INTERVAL 1 minute AS known_at
            FROM raw.failure_rates
            WHERE "minute" >= ? AND _arrived_at <= ?
            GROUP BY "partition", {labels}, known_at
        )
        SELECT epoch_us(max(known_at) OVER of_key), epoch_us("minute"), actor_kind, actor, "version", segment, {added}
        FROM by_minute
        WINDOW of_key AS (PARTITION BY "partition", {labels} ORDER BY latest_offset)
        """,
        [begin, end],
    )
    split = 1 + len(Cell._fields)
    while rows := found.fetchmany(10_000):
        for row in rows:
            yield Change(row[0], Cell(*row[1:split]), Counts(*row[split:]))


def time_of(micros: int) -> datetime:
    """Microseconds UTC as a time."""
    return _EPOCH + micros * _MICROSECOND


def micros_of(moment: datetime) -> int:
    """The other way round."""
    return (moment - _EPOCH) // _MICROSECOND


def _told(records: list[Record]) -> dict[str, Any]:
    latest = records[-1]
    fired = next((record["occurred_at"] for record in records if record["state"] == FIRING), None)
    return {
        **{name: value for name, value in latest.items() if name != "occurred_at"},
        "since": time_of(records[0]["occurred_at"]),
        "fired_at": None if fired is None else time_of(fired),
        "changed_at": time_of(latest["occurred_at"]),
    }
