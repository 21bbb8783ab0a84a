"""The verdict finds what is planted, and names it: nothing else can be said of a table full of noughts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.sinks import dead_letters
from flyback.sinks.decode import Decoder
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.sinks.tables import TABLES
from flyback.streams import dlq
from flyback.streams.topology import Topology
from tests.chaos.producer_process import EXPECTED
from tests.chaos.verdict import Findings, Part, judge_part
from tests.streams.records import POISON, a_correction, a_grade, a_prediction
from tests.streams.stage import Stage
from tests.streams.verdict import Stored


class Scene:
    """What a real engine made of a small history, and the lake's rows of it, in lists that a test may change."""

    def __init__(self, settings: Settings, records: dict[str, list[Stored]]) -> None:
        self.settings = settings
        self.records = records
        topology = Topology(settings)
        self.tables: dict[str, pa.Table] = {}
        for table in TABLES:
            messages = (_message(t, r) for t in table.topics(topology) for r in records.get(t, ()))
            self.tables[table.name] = _rows(table.record, Messages.of(messages))

    def topic(self, name: str) -> list[Stored]:
        return self.records[self.settings.topic_prefix + name]

    def judge(self) -> Findings:
        findings = Findings()
        judge_part(self.settings, Part(0, self.records, self.tables), findings)
        return findings

    def change_row(self, table: str, column: str, value: Any, row: int = 0) -> None:
        rows = self.tables[table].to_pylist()
        rows[row][column] = value
        self.tables[table] = pa.Table.from_pylist(rows, schema=self.tables[table].schema)

    def change_event(self, topic: str, record: str, **changed: Any) -> None:
        """Of the topic's last message."""
        stored = self.topic(topic)[-1]
        assert stored.value is not None
        schema = codec.bundled(record)
        event = codec.decode(record, stored.value, schema) | changed
        encoded = codec.encode(record, event, int.from_bytes(stored.value[1:5], "big"))
        self.topic(topic)[-1] = stored._replace(value=encoded)


def _message(topic: str, r: Stored) -> Message:
    return Message(topic, r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers or ()))


def _rows(record: str | None, messages: Messages) -> pa.Table:
    if record is None:
        return with_provenance(dead_letters.rows(messages), messages)
    decoded = Decoder(record, 1, 1_000_000, BundledCatalog()).decode(messages)
    return with_provenance(decoded.columns, messages.only(decoded.kept))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, list[Stored]]]:
    stage = Stage(tmp_path_factory.mktemp("stage"), partitions=1)
    human = {"kind": "HUMAN", "name": "zoe", "version": ""}
    for task in ("t-1", "t-2", "t-3"):
        stage.send(a_prediction(task), a_correction(task), a_grade(task), a_prediction(task))
    stage.send(a_prediction("t-4", actor=human), a_correction("t-4"), a_correction("t-4", reason="another"))
    stage.send(*(build("t-5") for kind, (_, build) in POISON.items() if kind != "another partition"))
    stage.settle(stage.worker())
    stage.check()
    records = {topic: [*stage.stored(topic)] for topic in stage.topology.names}
    stage.close()
    return stage.settings, records


@pytest.fixture
def scene(history: tuple[Settings, dict[str, list[Stored]]]) -> Iterator[Scene]:
    settings, records = history
    yield Scene(settings, {topic: [*stored] for topic, stored in records.items()})


def test_of_what_is_right_nothing_is_said(scene: Scene) -> None:
    found = scene.judge()
    assert found.clean, found.named
    assert (found.raw, found.derived) == (15, 7)
    assert found.letters == Counter(reason for kind, (reason, _) in POISON.items() if kind != "another partition") + (
        Counter(conflict=1)
    )


def lose_a_pair(scene: Scene) -> None:
    del scene.topic("examples.v1")[1]


def double_a_pair(scene: Scene) -> None:
    scene.topic("coaching.v1").append(scene.topic("coaching.v1")[0])


def invent_a_pair(scene: Scene) -> None:
    scene.topic("examples.v1").append(scene.topic("examples.v1")[-1])
    scene.change_event("examples.v1", "Example", example_id="nobody's")


def change_a_pair(scene: Scene) -> None:
    scene.change_event("examples.v1", "Example", reason="changed")


def count_wrongly(scene: Scene) -> None:
    scene.change_event("failure-rates.v1", "FailureRate", failures=99)


def lose_a_count(scene: Scene) -> None:
    scene.topic("failure-rates.v1").clear()


def lose_a_letter(scene: Scene) -> None:
    del scene.topic("corrections.v1.dlq")[0]


def double_a_letter(scene: Scene) -> None:
    scene.topic("corrections.v1.dlq").append(scene.topic("corrections.v1.dlq")[0])


def refuse_what_is_right(scene: Scene) -> None:
    first = scene.topic("predictions.v1")[0]
    value, headers = dlq.letter(
        f"{scene.settings.topic_prefix}predictions.v1", 0, first.offset, 0, first.value, None, "conflict", "", 1_000_000
    )
    scene.topic("predictions.v1.dlq").append(first._replace(value=value, headers=headers))


def alter_a_letters_bytes(scene: Scene) -> None:
    letter = scene.topic("grades.v1.dlq")[0]
    assert letter.value is not None
    scene.topic("grades.v1.dlq")[0] = letter._replace(value=letter.value + b"!")


def alter_a_letters_reason(scene: Scene) -> None:
    letter = scene.topic("grades.v1.dlq")[0]
    headers = [(name, b"oversized" if name == dlq.REASON else content) for name, content in letter.headers or ()]
    scene.topic("grades.v1.dlq")[0] = letter._replace(headers=headers)


def lose_a_row(scene: Scene) -> None:
    scene.tables["examples"] = scene.tables["examples"].slice(1)


def double_a_row(scene: Scene) -> None:
    scene.tables["graded_examples"] = pa.concat_tables([scene.tables["graded_examples"]] * 2)


def change_a_row(scene: Scene) -> None:
    scene.change_row("examples", "reason", "changed")


def lose_a_raw_row(scene: Scene) -> None:
    scene.tables["predictions"] = scene.tables["predictions"].slice(1)


def double_a_raw_row(scene: Scene) -> None:
    rows = scene.tables["predictions"]
    scene.tables["predictions"] = pa.concat_tables([rows, rows.slice(0, 1)])


def misplace_a_raw_row(scene: Scene) -> None:
    scene.change_row("grades", "_arrived_at", scene.tables["grades"]["_arrived_at"][1].as_py().replace(year=1999))


def count_wrongly_in_the_lake(scene: Scene) -> None:
    rows = scene.tables["failure_rates"]
    last = pc.index(rows["_offset"], pc.max(rows["_offset"])).as_py()
    scene.change_row("failure_rates", "reviewed", 77, last)


def lose_a_letters_row(scene: Scene) -> None:
    scene.tables["dead_letters"] = scene.tables["dead_letters"].slice(1)


def alter_a_letters_row(scene: Scene) -> None:
    scene.change_row("dead_letters", "value", b"altered")


def lose_a_table(scene: Scene) -> None:
    scene.tables["coaching"] = None


@pytest.mark.parametrize(
    ("plant", "kind", "where", "name"),
    [
        (lose_a_pair, "lost", "derived topics", "t-2"),
        (double_a_pair, "double", "derived topics", "t-4"),
        (invent_a_pair, "wrong", "derived topics", "nobody's"),
        (change_a_pair, "wrong", "derived topics", "t-3"),
        (count_wrongly, "wrong", "failure rates in Kafka", "amazon"),
        (lose_a_count, "lost", "failure rates in Kafka", "amazon"),
        (lose_a_letter, "lost", "dead-letter topics", "corrections.v1"),
        (double_a_letter, "double", "dead-letter topics", "corrections.v1"),
        (refuse_what_is_right, "wrong", "dead-letter topics", "predictions.v1"),
        (alter_a_letters_bytes, "wrong", "dead-letter topics", "grades.v1"),
        (alter_a_letters_reason, "wrong", "dead-letter topics", "grades.v1"),
        (lose_a_row, "lost", "examples in the lake", "t-1"),
        (double_a_row, "double", "graded_examples in the lake", "t-1"),
        (change_a_row, "wrong", "examples in the lake", "t-1"),
        (lose_a_raw_row, "lost", "predictions in the lake", "t-1"),
        (double_a_raw_row, "double", "predictions in the lake", "t-1"),
        (misplace_a_raw_row, "wrong", "grades in the lake", "t-1"),
        (count_wrongly_in_the_lake, "wrong", "failure rates in the lake", "amazon"),
        (lose_a_letters_row, "lost", "dead letters in the lake", ".v1"),
        (alter_a_letters_row, "wrong", "dead letters in the lake", ".v1"),
        (lose_a_table, "lost", "coaching in the lake", "t-4"),
    ],
)
def test_what_is_planted_is_found_and_named(
    scene: Scene, plant: Callable[[Scene], None], kind: str, where: str, name: str
) -> None:
    plant(scene)
    found = scene.judge()
    assert getattr(found, kind).keys() == {where}, found
    assert sum(bool(count) for count in (found.lost, found.double, found.wrong)) == 1, found
    assert name in found.named[0]


def test_a_message_refused_for_another_reason_than_its_sender_expects_is_wrong(scene: Scene) -> None:
    raw = scene.topic("grades.v1")
    i = next(i for i, record in enumerate(raw) if record.offset == _refused_offset(scene))
    raw[i] = raw[i]._replace(headers=[(EXPECTED, b"oversized")])
    assert scene.judge().wrong == {"reasons": 1}


def test_numbers_of_the_loads_events_are_kept_by_service(scene: Scene) -> None:
    stored = scene.topic("predictions.v1")[0]
    assert stored.value is not None
    scene.topic("predictions.v1").append(stored)
    scene.change_event("predictions.v1", "Prediction", attributes={"load": "load-1", "number": "12"}, task_id="t-1")
    assert scene.judge().seen == {"load-1": {12}}


def _refused_offset(scene: Scene) -> int:
    headers = dict(scene.topic("grades.v1.dlq")[0].headers or ())
    return int(headers[dlq.OFFSET] or b"")
