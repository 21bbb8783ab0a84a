"""The sink on a real Kafka."""

from __future__ import annotations

import pyarrow as pa

from flyback.settings import Settings
from flyback.sinks.storage import open_table
from flyback.streams.topology import Topology
from tests.sinks.events import correction, prediction
from tests.sinks.kafka import Written, all_landed, eventually, running


def table(settings: Settings, name: str) -> pa.Table:
    handle = open_table(settings.lake, name)
    assert handle is not None
    return handle.to_pyarrow_table()


def test_every_valid_message_becomes_one_row_with_its_provenance(
    settings: Settings, topology: Topology, written: Written
) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(500)])
    written.events("Correction", [correction(f"t{i}") for i in range(500)])
    with running(settings, topology):
        eventually(lambda: all_landed(settings, written), "all rows")
    rows = table(settings, "predictions").to_pylist()
    assert sorted(row["task_id"] for row in rows) == sorted(f"t{i}" for i in range(500))
    assert {row["_topic"] for row in rows} == {topology.topic_of("Prediction")}
    assert len({(row["_partition"], row["_offset"]) for row in rows}) == 500
    assert all(row["_arrived_at"] <= row["_ingested_at"] for row in rows)
    assert table(settings, "corrections").num_rows == 500
