"""Opening a lake: pinned versions, the past, and errors that say what to do."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from flyback.errors import LakeError
from flyback.sinks import maintenance, tables
from flyback.sinks.lake import AsOf, lake
from flyback.sinks.maintenance import compact, vacuum
from tests.sinks.events import correction, prediction
from tests.sinks.lakes import BY_NAME, HandMade

COUNT = "SELECT count(*) FROM predictions"


def count(path: str, as_of: AsOf) -> int:
    with lake(path, as_of=as_of) as connection:
        ((found,),) = connection.sql(COUNT).fetchall()
        return int(found)


def now() -> datetime:
    """A moment that no commit shares: Delta's times have milliseconds."""
    moment = datetime.now(UTC)
    while datetime.now(UTC) - moment < timedelta(milliseconds=2):
        time.sleep(0.001)
    return moment


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(tmp_path / "it's a lake")


def test_views_stay_where_they_were_until_refresh(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    with lake(made.path) as connection:
        made.add("predictions", prediction("t2"))
        made.add("corrections", correction("t1"))
        assert connection.sql(COUNT).fetchall() == [(1,)]
        assert connection.versions["corrections"] is None
        connection.refresh()
        assert connection.sql(COUNT).fetchall() == [(2,)]
        assert connection.sql("SELECT count(*) FROM corrections").fetchall() == [(1,)]
        assert [connection.versions[name] for name in ("predictions", "corrections")] == [2, 1]


def test_refresh_sees_that_a_lake_was_made_anew(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    with lake(made.path) as connection:
        shutil.rmtree(made.path)
        again = HandMade(Path(made.path))
        for number in range(3):
            again.add("predictions", prediction(f"t{number}"))
        connection.refresh()
        assert connection.sql(COUNT).fetchall() == [(3,)]
        assert connection.versions["predictions"] == 3
        shutil.rmtree(made.path)
        Path(made.path).mkdir()
        connection.refresh()
        assert connection.sql(COUNT).fetchall() == [(0,)]


def test_as_of_a_moment_shows_what_was_committed_then(made: HandMade) -> None:
    before = now()
    made.add("predictions", prediction("t1"))
    between = now()
    made.add("predictions", prediction("t2"))
    assert count(made.path, before) == 0
    assert count(made.path, between) == 1
    assert count(made.path, between.astimezone().replace(microsecond=0) + timedelta(days=1)) == 2
    with lake(made.path, as_of=between) as connection:
        made.add("predictions", prediction("t3"))
        connection.refresh()
        assert connection.sql(COUNT).fetchall() == [(1,)]


def test_as_of_a_moment_finds_its_commit_among_many(made: HandMade) -> None:
    made.add("predictions", prediction("t"))
    then = now()
    for i in range(70):
        made.add("predictions", prediction(f"t{i}"))
    assert count(made.path, then) == 1
    assert count(made.path, None) == 71


def test_as_of_a_moment_does_not_depend_on_the_times_of_files(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    then = now()
    made.add("predictions", prediction("t2"))
    for file in (Path(made.path) / "predictions" / "_delta_log").iterdir():
        os.utime(file, (0, 0))  # as in a copy of the lake
    assert count(made.path, then) == 1


def test_versions_that_the_log_has_forgotten_are_an_error(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    then = now()
    made.add("predictions", prediction("t2"))
    log = Path(made.path) / "predictions" / "_delta_log"
    DeltaTable(log.parent).create_checkpoint()
    for version in (0, 1):
        (log / f"{version:020d}.json").unlink()
    assert count(made.path, now()) == 2
    for as_of in (then, {"predictions": 1}):
        with pytest.raises(LakeError, match="version 1 were vacuumed"):
            count(made.path, as_of)


def test_as_of_versions_fixes_the_tables_that_it_names(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    made.add("predictions", prediction("t2"))
    made.add("corrections", correction("t1"))
    assert [count(made.path, {"predictions": version}) for version in (0, 1, 2)] == [0, 1, 2]
    with lake(made.path, as_of={"predictions": 1}) as connection:
        assert connection.sql("SELECT count(*) FROM corrections").fetchall() == [(1,)]


def test_compaction_changes_no_answer_and_vacuum_makes_old_versions_an_error(
    made: HandMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        made.add("predictions", prediction(f"t{i}"))
    with lake(made.path) as pinned:
        assert compact(made.path, BY_NAME["predictions"]).merged == 3
        assert pinned.sql(COUNT).fetchall() == [(3,)]
    assert count(made.path, None) == 3
    assert vacuum(made.path, BY_NAME["predictions"], timedelta(days=1)).deleted == 0
    assert count(made.path, {"predictions": 2}) == 2
    monkeypatch.setattr(maintenance, "SHORTEST_RETENTION", timedelta(0))
    assert vacuum(made.path, BY_NAME["predictions"], timedelta(0)).deleted == 3
    with pytest.raises(LakeError, match="version 2 were vacuumed"):
        count(made.path, {"predictions": 2})
    assert count(made.path, None) == 3


def test_looking_up_an_id_in_merged_files_reads_one_small_row_group(
    made: HandMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    for i in range(5):
        made.add("predictions", prediction(f"t{i}"))
    compact(made.path, BY_NAME["predictions"])
    (merged,) = DeltaTable(Path(made.path) / "predictions").file_uris()
    file = Path(made.path) / "predictions" / Path(merged).name
    query = """
        SELECT
            max(row_group_id) + 1,
            max(row_group_num_rows),
            list(DISTINCT path_in_schema ORDER BY path_in_schema) FILTER (bloom_filter_offset IS NOT NULL)
        FROM parquet_metadata(?)
    """
    groups = duckdb.execute(query, [str(file)]).fetchall()
    assert groups == [(3, 2, ["prediction_id", "task_id"])]


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        ({"predictionz": 1}, "as_of names .*predictionz.*the lake's tables are"),
        ({"predictions": 7}, "no version 7, there are 0 to 1"),
        ({"predictions": -1}, "no version -1"),
        ({"grades": 0}, "no version 0, there is no such table yet"),
        (datetime(2026, 1, 1), "as_of needs a time zone"),
    ],
)
def test_an_impossible_as_of_is_refused(made: HandMade, as_of: AsOf, message: str) -> None:
    made.add("predictions", prediction("t1"))
    with pytest.raises(LakeError, match=message):
        lake(made.path, as_of=as_of)


def test_a_missing_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"no lake at .*nothing.*FLYBACK_LAKE"):
        lake(tmp_path / "nothing")


def test_a_broken_table_is_a_lake_error_that_names_it(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    log = Path(made.path) / "predictions" / "_delta_log"
    (log / "00000000000000000001.json").write_text("{broken", encoding="utf-8")
    with pytest.raises(LakeError, match="predictions"):
        lake(made.path)


def test_the_lake_of_the_settings_is_the_default(made: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    made.add("predictions", prediction("t1"))
    monkeypatch.setenv("FLYBACK_LAKE", made.path)
    with lake() as connection:
        assert connection.sql(COUNT).fetchall() == [(1,)]


def test_it_is_a_duckdb_connection(made: HandMade) -> None:
    made.add("predictions", prediction("t1"))
    with lake(made.path) as connection:
        mine = connection.sql("SELECT task_id FROM predictions")
        assert connection.sql("SELECT count(*) FROM mine").fetchall() == [(1,)]  # found by its Python name
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        assert connection.cursor().execute(COUNT).fetchall() == [(1,)]
        assert connection.sql("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
        assert connection.sql("FROM predictions").to_arrow_table().num_rows == 1
        assert mine.columns == ["task_id"]


def test_a_long_query_prints_no_progress_into_the_results(tmp_path: Path) -> None:
    with lake(tmp_path) as connection:
        assert connection.sql("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]
