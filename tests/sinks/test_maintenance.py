"""Compaction and vacuum beside each other and beside a writer."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from flyback.errors import LakeError
from flyback.settings import load
from flyback.sinks import maintenance, tables
from flyback.sinks.lake import lake
from flyback.sinks.lock import exclusive
from flyback.sinks.maintenance import Maintained, compact, maintain, vacuum
from flyback.sinks.tables import TABLES, landed
from tests.sinks.events import prediction
from tests.sinks.lakes import BY_NAME, TOPOLOGY, HandMade

TABLE = BY_NAME["predictions"]
(TOPIC,) = TABLE.topics(TOPOLOGY)


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(tmp_path / "lake")


def offsets(made: HandMade) -> list[int]:
    table = DeltaTable(Path(made.path) / TABLE.name).to_pyarrow_table(columns=["_offset"])
    return sorted(table["_offset"].to_pylist())


def test_a_table_that_is_not_there_needs_nothing(made: HandMade) -> None:
    assert compact(made.path, TABLE) == Maintained("predictions")
    assert vacuum(made.path, TABLE, timedelta(0)) == Maintained("predictions")


def test_compaction_keeps_rows_offsets_and_how_files_are_written(made: HandMade) -> None:
    for i in range(5):
        made.add("predictions", prediction(f"t{i}"))
    assert compact(made.path, TABLE) == Maintained("predictions", merged=5, written=1)
    assert compact(made.path, TABLE).merged == 0
    assert (offsets(made), landed(made.path)) == (list(range(5)), {(TOPIC, 0): 5})
    made.add("predictions", prediction("t5"))
    assert offsets(made) == list(range(6))


def test_a_second_compaction_at_the_same_time_is_refused(made: HandMade) -> None:
    made.add("predictions", prediction("t0"))
    made.add("predictions", prediction("t1"))
    with exclusive(made.path, TABLE), pytest.raises(LakeError, match="another process compacts this table"):
        compact(made.path, TABLE)
    assert compact(made.path, TABLE).merged == 2


def test_compactions_at_once_beside_a_writer_double_no_row(made: HandMade) -> None:
    made.add("predictions", prediction("t"))
    vacuum(made.path, TABLE, timedelta(hours=1))  # its first turn makes a writer try again
    done = threading.Event()

    def compact_all_the_time() -> None:
        while not done.is_set():
            try:
                compact(made.path, TABLE)
                vacuum(made.path, TABLE, timedelta(hours=1))
            except LakeError as error:
                assert "another process" in str(error)

    threads = [threading.Thread(target=compact_all_the_time) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(60):
        made.add("predictions", prediction(f"t{i}"))
    done.set()
    for thread in threads:
        thread.join()
    assert offsets(made) == list(range(61))
    assert any(commit["operation"] == "OPTIMIZE" for commit in DeltaTable(Path(made.path) / TABLE.name).history())


def _grow_older(path: Path, age: timedelta) -> None:
    """As if everything in this table had been written so long ago. Its checkpoints, which hold times, are left out."""
    for file in [*path.glob("*.parquet"), *(path / "_delta_log").iterdir()]:
        if file.suffix == ".json":
            actions = [json.loads(line) for line in file.read_text().splitlines()]
            for action in actions:
                if "remove" in action:
                    action["remove"]["deletionTimestamp"] -= age // timedelta(milliseconds=1)
            file.write_text("\n".join(json.dumps(action) for action in actions) + "\n")
        os.utime(file, (time.time() - age.total_seconds(),) * 2)


def test_files_are_deleted_though_a_checkpoint_was_made_in_between(made: HandMade) -> None:
    path = Path(made.path) / TABLE.name
    for i in range(3):
        made.add("predictions", prediction(f"t{i}"))
    compact(made.path, TABLE)
    week = timedelta(days=7)
    assert vacuum(made.path, TABLE, week).deleted == 0
    _grow_older(path, week + timedelta(hours=2))
    DeltaTable(path).create_checkpoint()
    assert vacuum(made.path, TABLE, week).deleted == 3
    assert offsets(made) == [0, 1, 2]


def test_the_log_is_cut_and_every_version_within_the_retention_stays_readable(made: HandMade) -> None:
    path = Path(made.path) / TABLE.name
    for i in range(4):
        made.add("predictions", prediction(f"t{i}"))
    DeltaTable(path).create_checkpoint()
    made.add("predictions", prediction("t4"))
    _grow_older(path, timedelta(days=3))
    first = vacuum(made.path, TABLE, timedelta(days=1))
    newest = DeltaTable(path).version()
    for i in range(3):
        made.add("predictions", prediction(f"t{5 + i}"))
    assert first.deleted == 0
    assert not (path / "_delta_log" / f"{3:020d}.json").exists()
    for version in range(newest, newest + 4):
        with lake(made.path, as_of={"predictions": version}) as connection:
            ((count,),) = connection.sql("SELECT count(*) FROM predictions").fetchall()
        assert count == 5 + version - newest
    assert landed(made.path) == {(TOPIC, 0): 8}


def test_of_checkpoints_that_were_replaced_few_stay_and_every_version_is_readable(
    made: HandMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tables._CONFIGURATION, "delta.checkpointInterval", "2")
    monkeypatch.setattr(maintenance, "CHECKPOINT_INTERVAL", 2)
    monkeypatch.setattr(maintenance, "_KEPT_CHECKPOINT", 3)
    path = Path(made.path) / TABLE.name
    for i in range(15):
        made.add("predictions", prediction(f"t{i}"))

    def checkpoints() -> list[int]:
        return sorted(int(file.name[:20]) for file in (path / "_delta_log").glob("*.checkpoint.parquet"))

    before = checkpoints()
    assert len(before) >= 7
    vacuum(made.path, TABLE, timedelta(days=1))
    assert checkpoints()[: len(before)] == before, "a reader may be at one that was just replaced"
    newest = checkpoints()[-1]
    _grow_older(path, timedelta(hours=2))
    for _ in range(2):
        vacuum(made.path, TABLE, timedelta(days=1))
        assert [version // 6 for version in checkpoints() if version != newest] == [0, 1, 2]
    for version in range(1, 16):
        assert DeltaTable(path, version=version).count() == version
    made.add("predictions", prediction("t15"))
    assert (offsets(made), landed(made.path)) == (list(range(16)), {(TOPIC, 0): 16})


def test_maintenance_covers_every_table_and_keeps_files_for_an_hour_at_least(made: HandMade) -> None:
    for i in range(3):
        made.add("predictions", prediction(f"t{i}"))
    done = maintain(load(lake=made.path, vacuum_retention="0s"))
    assert [item.table for item in done] == [table.name for table in TABLES]
    assert done[0] == Maintained("predictions", merged=3, written=1, deleted=0)
