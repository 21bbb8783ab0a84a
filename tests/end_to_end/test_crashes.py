"""The promise under kill -9: each pair once, each row once, and no dead letter but the poison."""

from __future__ import annotations

from collections import Counter

from confluent_kafka import Message

from flyback import Client, deadletters, human, model
from flyback.client import PredictionRef
from flyback.sinks.lake import lake
from flyback.sinks.tables import landed
from flyback.verify import compare
from tests.end_to_end.site import SECONDS, Site
from tests.streams.on_kafka import OnKafka
from tests.streams.records import POISON
from tests.waiting import eventually

SLICES = 4
TASKS = 250  # in a slice
EVENTS = 5  # of a task, one of them a copy


class Load:
    """A service that answers, reviewers that judge, and somebody whose producer is broken."""

    def __init__(self, site: Site, client: Client) -> None:
        self._client = client
        self._broken = OnKafka(site.settings)
        self.poison: Counter[tuple[str, int, int, str]] = Counter()
        self.sent = 0

    def send(self, number: int) -> None:
        """Start sending one slice; every second task's feedback comes before its prediction."""
        for i in range(number * TASKS, (number + 1) * TASKS):
            about = PredictionRef(f"task-{i}", f"p-{i}")
            parts = [self._answer, self._judge]
            for part in parts if i % 2 else reversed(parts):
                part(i, about)
        for reason, build in POISON.values():
            message = build(f"task-{number * TASKS}")

            def refused(sent: Message, reason: str = reason) -> None:
                self.poison[str(sent.topic()), int(sent.partition() or 0), int(sent.offset() or 0), reason] += 1

            self._broken.start_sending(message, refused)

    def flush(self) -> None:
        self._broken.flush()
        assert self._client.flush(SECONDS) == 0
        assert self._client.stats().failed == 0
        self.sent = self._client.stats().sent

    def _answer(self, i: int, about: PredictionRef) -> None:
        actor = human("zoe") if i % 3 == 0 else model("triage", "7")
        for _ in range(1 + (i % 2)):  # a copy of every second one
            self._client.predict(
                task_id=about.task_id, prediction_id=about.prediction_id, actor=actor, input=f"text {i}", output="a"
            )

    def _judge(self, i: int, about: PredictionRef) -> None:
        ann, bob = human("ann"), human("bob")
        for _ in range(2 - (i % 2)):
            self._client.correct(about, output="b", author=ann, correction_id="c", sampling_probability=0.25)
        self._client.confirm(about, author=bob)
        self._client.grade(
            about, rubric="tone", rubric_version="2", scores={"polite": (4, 5)}, passed=False, author=bob
        )


def some_rows_landed(folder: str) -> bool:
    return any(offset > 0 for (topic, _), offset in landed(folder).items() if topic.endswith("examples.v1"))


def test_killed_workers_and_sinks_lose_nothing_double_nothing_and_refuse_only_poison(site: Site) -> None:
    small = {"FLYBACK_BATCH_EVENTS": "100", "FLYBACK_TRANSACTION_INTERVAL": "20ms", "FLYBACK_COMMIT_ROWS": "200"}
    workers = [site.start_worker(name, **small) for name in ("a", "b")]
    sink = site.start_sink(**small)
    for service in (*workers, sink):
        service.wait_ready()
    with Client(site.settings) as client:
        load = Load(site, client)
        load.send(0)
        eventually(lambda: some_rows_landed(site.settings.lake), "the first examples are in the lake", SECONDS)
        load.send(1)
        sink.kill()
        workers[0].kill()
        load.send(2)
        workers[0].start()
        sink.start()
        load.send(3)
        load.flush()
    site.until_landed()

    tasks = SLICES * TASKS
    found = compare(site.settings)
    assert found.differences == []
    assert load.sent == found.raw == tasks * EVENTS
    assert found.refused == len(load.poison) == SLICES * len(POISON)
    assert sum(found.derived.values()) == 3 * tasks
    letters = [
        (letter.topic, letter.partition, letter.offset, letter.reason) for letter in deadletters.read(site.settings)
    ]
    assert Counter(letters) == load.poison
    with lake(site.settings.lake) as tables:
        stored = tables.sql("select source_topic, source_partition, source_offset, reason from dead_letters").fetchall()
        assert Counter(stored) == load.poison
        [(rows, copies)] = tables.sql("select count(*), count(distinct example_id) from examples").fetchall()
        assert rows == copies
