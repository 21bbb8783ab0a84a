"""The lake's benchmark, in tiny form: what it asks, and that it does not believe every answer."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from benchmarks import lake, lake_data
from benchmarks.contest import Void
from flyback.sinks.lake import lake as open_lake


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    lake.make(folder, lake_data.Day(900), fresh_minutes=1)
    return folder


def test_every_query_gives_the_same_from_both(made: Path) -> None:
    answered = lake.measure(made, examples=300, runs=1)
    assert [one.query for one in answered] == ["opening", *(query.name for query in lake.QUERIES)]
    assert lake.markdown(answered).count("\n") == 2 + len(answered)


def test_a_lake_of_another_size_is_not_asked(made: Path) -> None:
    with pytest.raises(Void, match="holds another lake"):
        lake.measure(made, examples=600, runs=1)


def test_a_wrong_answer_voids_the_run(made: Path) -> None:
    wrong = lake.Query("rows", "SELECT count(*) FROM raw.predictions", "SELECT count(*) FROM predictions")
    with pytest.raises(Void, match="they differ"):
        lake.ask(wrong, {}, made, 1)


def test_the_lake_has_copies_and_early_counts_that_the_plain_files_have_not(made: Path) -> None:
    with open_lake(made / "lake") as ours:
        assert ours.sql("SELECT count(*) FROM raw.predictions").fetchall() == [(909,)]
        assert ours.sql("SELECT count(*), count(DISTINCT task_id) FROM predictions").fetchall() == [(900, 900)]
        assert ours.sql("SELECT count(*) FROM examples_resolved WHERE corrections = 2").fetchall() == [(3,)]
        [(raw,)] = ours.sql("SELECT count(*) FROM raw.failure_rates").fetchall()
    [(compact,)] = duckdb.sql(f"SELECT count(*) FROM '{made}/plain/failure_rates.parquet'").fetchall()
    assert raw > compact


def test_the_offsets_of_every_partition_have_no_gap(made: Path) -> None:
    with open_lake(made / "lake") as ours:
        for table in lake_data.TABLES_MADE:
            gaps = f"SELECT count(DISTINCT _offset) - 1 - max(_offset) FROM raw.{table} GROUP BY _partition"
            assert set(ours.sql(gaps).fetchall()) == {(0,)}
