"""What pyarrow writes for the sink is what deltalake's own writer would have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from flyback.errors import LakeError
from flyback.schemas.codec import Record
from flyback.sinks import dead_letters, tables
from flyback.sinks.message import Message, Messages, Place
from flyback.sinks.sink import with_provenance
from flyback.sinks.tables import Table, TableWriter
from tests.sinks.events import correction, derived, grade, prediction
from tests.sinks.lakes import BY_NAME, SOURCES, TOPOLOGY, rows_of

EVENTS: dict[str, list[Record]] = {
    "predictions": [
        prediction("t0", context=[{"content_type": "text/plain", "body": "é" * 5_000}], attributes={"a": "b"}),
        prediction("t1", confidence=None, segment="é" * 40),
    ],
    "corrections": [correction("t0", reason="so"), correction("t1", "c2", "CONFIRMED", error_category="style")],
    "grades": [grade("t0", scores=[]), grade("t1", "g2", None)],
    "examples": [derived(prediction("t0"), correction("t0"))],
    "dead_letters": [],
}
PREDICTIONS = BY_NAME["predictions"]


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MANY", 1)


def rows(table: Table) -> pa.Table:
    if table.record is not None:
        return rows_of(table, EVENTS[table.name])
    letters = [Message(*place(table), 0, 1, b"\xff", None, []), Message(*place(table), 1, 1, None, b"v", [("h", b"")])]
    return with_provenance(dead_letters.rows(letters), Messages.of(letters))


def place(table: Table) -> Place:
    return table.topics(TOPOLOGY)[0], 0


def commit(lake: Path, table: Table, found: pa.Table, first: int = 0) -> DeltaTable:
    writer = TableWriter(str(lake), table, SOURCES[table.name])
    writer.commit(found, writer.open(), {place(table): first + found.num_rows})
    return DeltaTable(lake / table.name)


def forbidden(*_: Any, **__: Any) -> None:
    pytest.fail("the other writer was used")


@pytest.mark.parametrize("name", EVENTS)
def test_both_writers_make_the_same_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = BY_NAME[name]
    found = rows(table)
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_deltalake", forbidden)
        ours = commit(tmp_path / "ours", table, found)
    with monkeypatch.context() as patch:
        patch.setattr(tables, "add_file", forbidden)
        patch.setattr(tables, "is_remote", lambda lake: True)
        theirs = commit(tmp_path / "theirs", table, found)
    assert ours.to_pyarrow_table().equals(theirs.to_pyarrow_table())
    assert ours.to_pyarrow_table().equals(found)
    assert ours.schema() == theirs.schema()
    assert ours.count() == theirs.count() == found.num_rows
    assert tables.offsets_of(ours) == tables.offsets_of(theirs) == {place(table): found.num_rows}
    assert bloom_filters(ours) == bloom_filters(theirs) == table.looked_up_by


def bloom_filters(table: DeltaTable) -> list[str]:
    """The columns that have one in the only file."""
    (file,) = table.file_uris()
    group = pq.read_metadata(file.removeprefix("file://")).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return [column.path_in_schema for column in columns if column.bloom_filter_offset is not None]


@pytest.mark.parametrize("name", EVENTS)
def test_the_log_says_what_is_in_a_file_and_nothing_long(name: str, tmp_path: Path) -> None:
    table = BY_NAME[name]
    found = rows(table)
    commit(tmp_path, table, found)
    log = (tmp_path / name / "_delta_log" / "00000000000000000001.json").read_text(encoding="utf-8")
    (added,) = (action["add"] for action in map(json.loads, log.splitlines()) if "add" in action)
    said = json.loads(added["stats"])
    assert {"_partition", "_offset", "_arrived_at"} <= said["minValues"].keys() & said["maxValues"].keys()
    for column, nulls in said["nullCount"].items():
        assert nulls == found[column].null_count
    for kind, function in (("minValues", pc.min), ("maxValues", pc.max)):
        for column, value in said[kind].items():
            assert pa.scalar(value).cast(found[column].type).equals(function(found[column]))
            assert len(str(value).encode()) <= 64


@pytest.mark.parametrize("column", ["error_category", "task_id", "_offset"])
def test_a_reader_that_passes_over_files_finds_every_row(column: str, tmp_path: Path) -> None:
    table = BY_NAME["corrections"]
    found = rows(table)
    dataset = commit(tmp_path, table, found).to_pyarrow_dataset()
    field = pc.field(column)
    for value in found[column].to_pylist():
        wanted = field.is_null() if value is None else field == value
        assert dataset.to_table(filter=wanted).num_rows == 1


def test_a_table_that_lacks_a_column_gets_it_and_one_that_has_more_keeps_them(tmp_path: Path) -> None:
    found = rows(PREDICTIONS)
    young = found.schema.get_field_index("segment")
    old = found.schema.remove(young).append(pa.field("older", pa.string()))
    DeltaTable.create(tmp_path / "predictions", old)
    commit(tmp_path, PREDICTIONS, found)
    table = commit(tmp_path, PREDICTIONS, found, first=2).to_pyarrow_table()
    assert table.select(found.schema.names).equals(pa.concat_tables([found, found]))
    assert table["older"].null_count == 4


def test_a_full_disk_is_the_lakes_error_and_nothing_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TableWriter(str(tmp_path), PREDICTIONS, SOURCES["predictions"])
    found = rows(PREDICTIONS)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(LakeError, match="No space left"):
            writer.commit(found, {}, {place(PREDICTIONS): 2})
    assert list(tmp_path.rglob("*.parquet")) == []
    writer.commit(found, {}, {place(PREDICTIONS): 2})
    assert DeltaTable(tmp_path / "predictions").count() == 2
