"""Commits: rows and offsets together, once, by one writer, from the topics that the table belongs to."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from flyback.errors import RefusedToStart, WorkerFenced
from flyback.sinks.message import Place
from flyback.sinks.tables import Source, TableWriter, landed, offsets_of
from tests.sinks.events import prediction
from tests.sinks.lakes import BY_NAME, SOURCES, TOPOLOGY, rows_of

TABLE = BY_NAME["predictions"]
(TOPIC,) = TABLE.topics(TOPOLOGY)
SOURCE = SOURCES["predictions"][TOPIC]
PLACE: Place = (TOPIC, 0)


def writer(lake: Path, **changed: object) -> TableWriter:
    return TableWriter(str(lake), TABLE, {TOPIC: replace(SOURCE, **changed)})  # type: ignore[arg-type]


def rows(lake: Path) -> int:
    return int(DeltaTable(lake / TABLE.name).count())


def commit(writer: TableWriter, offset: int, count: int = 1) -> None:
    before = {PLACE: offset} if offset else {}
    events = [prediction(f"t{offset + i}") for i in range(count)]
    writer.commit(rows_of(TABLE, events, offset), before, {PLACE: offset + count})


def test_a_table_is_made_by_its_first_commit(tmp_path: Path) -> None:
    first = writer(tmp_path)
    assert first.open() == {}
    assert list(tmp_path.iterdir()) == []
    assert landed(str(tmp_path)) == {}
    commit(first, 0, 3)
    assert landed(str(tmp_path)) == {PLACE: 3}
    assert writer(tmp_path).open() == {PLACE: 3}


def test_offsets_move_without_rows(tmp_path: Path) -> None:
    first = writer(tmp_path)
    first.commit(rows_of(TABLE, []), {}, {PLACE: 5})
    assert landed(str(tmp_path)) == {PLACE: 5}
    assert rows(tmp_path) == 0


def test_a_commit_that_is_tried_again_is_not_written_twice(tmp_path: Path) -> None:
    first = writer(tmp_path)
    commit(first, 0)
    commit(first, 0)
    assert rows(tmp_path) == 1


def test_a_writer_that_another_one_overtook_is_fenced(tmp_path: Path) -> None:
    first, second = writer(tmp_path), writer(tmp_path)
    commit(first, 0)
    second.open()
    commit(first, 1)
    with pytest.raises(WorkerFenced, match="another sink moved the offsets"):
        commit(second, 1, 2)
    assert (rows(tmp_path), landed(str(tmp_path))) == (2, {PLACE: 2})


def test_offsets_outlive_checkpoints_and_reopened_handles(tmp_path: Path) -> None:
    first = writer(tmp_path)
    for offset in range(45):  # past two reopenings
        commit(first, offset)
    DeltaTable(tmp_path / TABLE.name).create_checkpoint()
    for log in (tmp_path / TABLE.name / "_delta_log").glob("*.json"):
        if int(log.stem) < 45:
            log.unlink()  # what log clean-up does
    assert offsets_of(DeltaTable(tmp_path / TABLE.name)) == {PLACE: 45}
    commit(first, 45)
    assert rows(tmp_path) == 46


def test_two_writers_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    fenced: list[int] = []
    both_are_open = threading.Barrier(2)

    def write(step: int) -> None:  # other steps: the first commit of one fences the other
        mine = writer(tmp_path)
        offset = mine.open().get(PLACE, 0)
        both_are_open.wait(30)
        while offset < 60:
            try:
                for start in range(offset, 60, step):
                    commit(mine, start, step)
            except WorkerFenced:
                fenced.append(step)
            offset = mine.open().get(PLACE, 0)

    threads = [threading.Thread(target=write, args=(step,)) for step in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = DeltaTable(tmp_path / TABLE.name).to_pyarrow_table(columns=["_offset"])
    (end,) = landed(str(tmp_path)).values()
    assert sorted(table["_offset"].to_pylist()) == list(range(end))
    assert fenced


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"topic_id": "other"}, "deleted and made again"),
        ({"cluster_id": "other"}, "was in cluster cluster, this is cluster other"),
        ({"partitions": 8}, "had 4 partitions and has 8"),
    ],
)
def test_a_lake_of_other_topics_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    commit(writer(tmp_path), 0)
    foreign = writer(tmp_path, **changed)
    with pytest.raises(RefusedToStart, match=message) as refusal:
        foreign.open()
    assert "FLYBACK_LAKE" in str(refusal.value)
    with pytest.raises(RefusedToStart):
        commit(foreign, 1)
    assert rows(tmp_path) == 1


def test_a_lake_of_topics_with_another_prefix_is_refused(tmp_path: Path) -> None:
    commit(writer(tmp_path), 0)
    with pytest.raises(RefusedToStart, match="was filled from the topic"):
        TableWriter(str(tmp_path), TABLE, {"other.predictions.v1": SOURCE}).open()


def test_a_dead_letter_topic_may_join_later(tmp_path: Path) -> None:
    table = BY_NAME["dead_letters"]
    old, new = table.topics(TOPOLOGY)[:2]
    source = Source("cluster", "topic", 4)
    empty = table.schema.empty_table()
    TableWriter(str(tmp_path), table, {old: source}).commit(empty, {}, {(old, 1): 7})
    later = TableWriter(str(tmp_path), table, {old: source, new: source})
    assert later.open() == {(old, 1): 7}
    later.commit(empty, {}, {(new, 2): 9})
    assert landed(str(tmp_path)) == {(old, 1): 7, (new, 2): 9}


def test_the_log_does_not_hold_whole_texts(tmp_path: Path) -> None:
    first = writer(tmp_path)
    event = prediction("t", input={"content_type": "text/plain", "body": "x" * 1_000_000})
    first.commit(rows_of(TABLE, [event]), {}, {PLACE: 1})
    assert all(file.stat().st_size < 20_000 for file in (tmp_path / TABLE.name / "_delta_log").iterdir())
    assert rows(tmp_path) == 1
