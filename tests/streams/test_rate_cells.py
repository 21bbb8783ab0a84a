"""Reading messages of `failure-rates.v1`, and showing windows as gauges."""

from __future__ import annotations

import json

import pytest
from prometheus_client import generate_latest

from flyback.errors import RegistryUnavailable
from flyback.metrics import REGISTRY
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Schema
from flyback.streams.rate_cells import WindowGauges, partition_of, read_cells
from flyback.streams.windows import MAX_SEGMENTS, Counts, MinuteCounts, Row

TOPIC = "flyback.failure-rates.v1"
CATALOG = BundledCatalog()
RECORD = {
    "partition": 2,
    "minute": 60_000_000,
    "actor_kind": "HUMAN",
    "actor": "ann",
    "version": "",
    "segment": "s",
    "predictions": 3,
    "reviewed": 2,
    "failures": 1,
    **dict.fromkeys(("weighted_reviews", "sum_w", "sum_wy", "sum_w2", "sum_w2y"), 0),
    "derive_version": 1,
}
KEY = json.dumps([2, 60_000_000, "HUMAN", "ann", "", "s"], separators=(",", ":")).encode()
VALUE = codec.encode("FailureRate", RECORD, CATALOG.id_for("FailureRate", TOPIC))


def skipped(reason: str) -> float:
    return REGISTRY.get_sample_value("flyback_app_skipped_total", {"topic": TOPIC, "reason": reason}) or 0.0


def test_a_message_becomes_its_key_and_counts() -> None:
    assert read_cells([(KEY, 2, VALUE)], CATALOG, TOPIC) == [(KEY, MinuteCounts(2, 60_000_000, "HUMAN", "s", 3, 2, 1))]


@pytest.mark.parametrize(
    ("key", "partition", "value", "reason"),
    [
        (KEY, 2, None, "empty_value"),
        (KEY, 2, b"x" + VALUE[1:], "no_magic_byte"),
        (KEY, 2, VALUE[:-1], "truncated"),
        (KEY, 2, VALUE[:1] + b"\x00\x00\x00\x01" + VALUE[5:], "unknown_schema"),
        (KEY, 1, VALUE, "wrong_partition"),
        (KEY.replace(b"[2", b"[1"), 2, VALUE, "wrong_partition"),
        (b"\xff", 2, VALUE, "invalid_key"),
        (b"{}", 2, VALUE, "invalid_key"),
        (b'["2"]', 2, VALUE, "invalid_key"),
    ],
)
def test_what_cannot_be_read_is_skipped_and_counted(
    key: bytes, partition: int, value: bytes | None, reason: str
) -> None:
    before = skipped(reason)
    found = read_cells([(key, partition, value), (KEY, 2, VALUE)], CATALOG, TOPIC)
    assert [key for key, _ in found] == [KEY]
    assert skipped(reason) == before + 1


def test_a_registry_that_is_down_is_left_to_the_caller() -> None:
    class Down(BundledCatalog):
        def schema(self, schema_id: int) -> Schema:
            raise RegistryUnavailable("down")

    with pytest.raises(RegistryUnavailable):
        read_cells([(KEY, 2, VALUE)], Down(), TOPIC)


def test_a_key_names_its_partition() -> None:
    assert partition_of(KEY) == 2


def test_rows_that_are_gone_leave_the_exposition() -> None:
    gauges = WindowGauges()
    gauges.show({Row("24h", "MODEL", "stays"): Counts(5, 3, 1), Row("24h", "MODEL", "goes"): Counts(1, 1, 1)})
    gauges.show({Row("24h", "MODEL", "stays"): Counts(6, 4, 2)})
    text = generate_latest(REGISTRY).decode()
    assert 'flyback_window_failures{actor_kind="MODEL",segment="stays",window="24h"} 2.0' in text
    assert 'segment="goes"' not in text
    WindowGauges()
    assert 'segment="stays"' not in generate_latest(REGISTRY).decode()


def test_too_many_segments_are_said_once_with_how_many_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    gauges = WindowGauges()
    few = {Row("24h", "MODEL", f"s{i}"): Counts(2, 1, 0) for i in range(MAX_SEGMENTS)}
    gauges.show(few)
    assert REGISTRY.get_sample_value("flyback_window_segments") == MAX_SEGMENTS
    assert "too many segments" not in capsys.readouterr().out

    for _ in range(2):
        gauges.show(few | {Row("24h", "MODEL", f"task-{i}"): Counts(1) for i in range(50)})
    assert REGISTRY.get_sample_value("flyback_window_segments") == MAX_SEGMENTS + 50
    text = generate_latest(REGISTRY).decode()
    assert 'flyback_window_predictions{actor_kind="MODEL",segment="other",window="24h"} 50.0' in text
    assert text.count("flyback_window_predictions{") == MAX_SEGMENTS + 1
    said = capsys.readouterr().out
    assert said.count("too many segments") == 1
    assert f"segments={MAX_SEGMENTS + 50}" in said
