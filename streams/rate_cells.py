"""From `failure-rates.v1` to the gauges: reading its messages, showing the windows' sums."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from flyback import metrics
from flyback.errors import InvalidEvent, UnknownSchema
from flyback.logs import get_logger
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.streams.windows import MAX_SEGMENTS, OTHER, Counts, MinuteCounts, Row, with_bounded_segments

log = get_logger(__name__)

RECORD = "FailureRate"

Message = tuple[bytes, int, bytes | None]
"""Key, partition and value."""


def partition_of(key: bytes) -> int:
    """The partition that a message key names. Raises ValueError where it names none."""
    named = json.loads(key)
    if not isinstance(named, list) or not named or not isinstance(named[0], int):
        raise ValueError("the key is no JSON array that begins with a partition")
    return named[0]


def read_cells(messages: Sequence[Message], catalog: Catalog, topic: str) -> list[tuple[bytes, MinuteCounts]]:
    """Keys with what windows need of their counts. Raises as `read_records` does."""
    return [
        (key, MinuteCounts(*(record[name] for name in MinuteCounts._fields)))
        for key, record in read_records(messages, catalog, topic)
    ]


def read_records(messages: Sequence[Message], catalog: Catalog, topic: str) -> list[tuple[bytes, Record]]:
    """Keys with their records; what cannot be read is skipped and counted. Raises RegistryUnavailable."""
    found = []
    for key, partition, value in messages:
        try:
            schema = catalog.schema(wire.schema_id(value))
            record = codec.decode(RECORD, value or b"", schema)
            if not record["partition"] == partition_of(key) == partition:
                raise InvalidEvent("wrong_partition", "partition", f"a count of another one lies in {partition}")
        except UnknownSchema:
            reason = "unknown_schema"
        except InvalidEvent as error:
            reason = error.reason
        except ValueError:
            reason = "invalid_key"
        else:
            found.append((key, record))
            continue
        metrics.APP_SKIPPED.labels(topic, reason).inc()
    return found


class WindowGauges:
    """The gauges of the windows, at most 200 segments; rows that are gone are taken out of the exposition."""

    def __init__(self) -> None:
        self._shown: set[Row] = set()
        self._warned = False
        self._gauges = (metrics.WINDOW_PREDICTIONS, metrics.WINDOW_REVIEWED, metrics.WINDOW_FAILURES)
        for gauge in self._gauges:
            gauge.clear()  # of an earlier app in this process

    def show(self, rows: Mapping[Row, Counts]) -> None:
        """Make these the rows that are exposed, and say once where there are too many segments for that."""
        segments = len({row.segment for row in rows})
        metrics.WINDOW_SEGMENTS.set(segments)
        if segments > MAX_SEGMENTS and not self._warned:
            self._warned = True
            log.warning(
                f"too many segments: the metrics show the largest and the rest as {OTHER}. A segment is a slice of few "
                "values (domain, customer, language): put what has more into the attributes of a prediction",
                segments=segments,
                shown=MAX_SEGMENTS,
            )
        bounded = with_bounded_segments(rows)
        for row, counts in bounded.items():
            for gauge, value in zip(self._gauges, counts, strict=True):
                gauge.labels(*row).set(value)
        for row in self._shown - bounded.keys():
            for gauge in self._gauges:
                gauge.remove(*row)
        self._shown = set(bounded)
