"""The matcher over a real RocksDB: whatever the order and the batches, what one pass over the history gives."""

from __future__ import annotations

import gc
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings

from flyback.schemas import codec, wire
from flyback.schemas.codec import Record
from flyback.streams import entries, join, rates, state
from flyback.streams.join import Arrived, Derived, pair_id
from flyback.streams.matcher import Matched, Matcher, TooMuch
from flyback.streams.messages import Columns, Message, Predictions
from flyback.streams.rates import Cell, Counts
from flyback.streams.state import Meta, Origin, StateFolder
from tests.strategies import (
    EPOCH_MS,
    TOPIC,
    WINDOW_MS,
    History,
    arrived,
    correction,
    grade,
    histories,
    message,
    prediction,
)

WINDOW = timedelta(milliseconds=WINDOW_MS)


class Worker:
    """What the engine does around a matcher: applied offsets, watermarks, and the writes after each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = StateFolder(folder)
        self.store = self.folder.store(0)
        self.matcher = Matcher(self.store, dict(TOPIC), WINDOW_MS)
        self.meta = Meta(Origin("cluster", {}, 0, WINDOW_MS), 1)
        self.derived: list[Derived] = []
        self.conflicts: list[Arrived] = []
        self.duplicates: Counter[str] = Counter()
        self.counts: dict[Cell, Counts] = {}
        self.last = Matched()

    def match(self, *messages: Message, columns: Sequence[Predictions] = ()) -> Matched:
        """One batch, without its writes: what is left where its transaction failed."""
        for each in messages:
            topic, at = each.arrived.topic, each.arrived.arrived_at
            self.meta.watermarks[topic] = max(at, self.meta.watermarks.get(topic, 0))
        return self.matcher.match(messages, self.meta, columns)

    def batch(self, *messages: Message, columns: Sequence[Predictions] = ()) -> Matched:
        """One batch, its transaction committed, remembered."""
        matched = self.match(*messages, columns=columns)
        self.store.write(matched.writes)
        self.derived += [pair.derived for pair in matched.pairs]
        self.conflicts += [each.arrived for each in matched.conflicts]
        self.duplicates += matched.duplicates
        self.counts |= matched.counts
        return matched

    def all_topics_reach(self, arrived_at: int) -> None:
        self.meta.watermarks = dict.fromkeys(TOPIC.values(), arrived_at)

    def kinds_kept(self) -> set[bytes]:
        """First bytes of the keys in the store."""
        return {key[:1] for key, _ in self.store.scan(b"")} - {state.LINK}

    def close(self) -> None:
        self.folder.close()


@contextmanager
def a_worker() -> Iterator[Worker]:
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder))
        try:
            yield worker
        finally:
            worker.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with a_worker() as found:
        yield found


def apart(messages: Sequence[Message]) -> tuple[list[Message], list[Predictions]]:
    """The same with most predictions as columns, as admission gives them: in two parts, and some by themselves."""
    predictions = [each for each in messages if each.record == "Prediction"]
    alone = predictions[::4]
    parts = [[each for each in predictions[first::2] if each not in alone] for first in (0, 1)]
    others = [each for each in messages if each.record != "Prediction"]
    return others + alone, [columns(part) for part in parts if part]


def columns(messages: Sequence[Message]) -> Predictions:
    cells = sorted({each.cell for each in messages if each.cell is not None})
    lists = [(m.offset, m.arrived_at, m.task_id.encode(), m.value, m.headers) for m in messages]
    return Predictions(
        messages[0].topic,
        messages[0].schema,
        Columns(messages[0].partition, *map(list, zip(*lists, strict=True))),
        [each.traceparent for each in messages],
        pa.array([each.task_id for each in messages], pa.string()),
        [each.key for each in messages],
        cells,
        [cells.index(each.cell) for each in messages if each.cell is not None],
    )


def by_id(derived: Iterable[Derived]) -> dict[str, Derived]:
    """Derived events by id; two of one id are a failure."""
    ids = {"Example": "example_id", "GradedExample": "graded_example_id", "Coaching": "coaching_id"}
    found: dict[str, Derived] = {}
    for each in derived:
        key = each.event[ids[each.record]]
        assert key not in found, "one pair was derived twice"
        found[key] = each
    return found


def places(records: Sequence[Arrived]) -> list[tuple[str, int]]:
    return sorted((each.topic, each.offset) for each in records)


@given(histories())
@settings(max_examples=200, deadline=None)
def test_any_order_in_any_batches_gives_what_one_pass_gives(history: History) -> None:
    expected = join.batch(history.records, WINDOW)
    counts = rates.batch(expected.first_copies.values(), WINDOW)
    with a_worker() as worker:
        for batch in history.batches:
            worker.batch(*map(message, batch))
        assert by_id(worker.derived) == by_id(expected.derived)
        assert places(worker.conflicts) == places(expected.conflicts)
        assert worker.duplicates == Counter(each.topic for each in expected.duplicates)
        assert {(0, cell): found for cell, found in worker.counts.items()} == counts


@given(histories())
@settings(max_examples=200, deadline=None)
def test_predictions_as_columns_give_what_one_pass_gives(history: History) -> None:
    expected = join.batch(history.records, WINDOW)
    counts = rates.batch(expected.first_copies.values(), WINDOW)
    with a_worker() as worker:
        for batch in history.batches:
            messages, predictions = apart([message(each) for each in batch])
            worker.match(*messages, columns=predictions)  # dropped, and read again
            worker.batch(*messages, columns=predictions)
        assert by_id(worker.derived) == by_id(expected.derived)
        assert places(worker.conflicts) == places(expected.conflicts)
        assert worker.duplicates == Counter(each.topic for each in expected.duplicates)
        assert {(0, cell): found for cell, found in worker.counts.items()} == counts
        worker.all_topics_reach(EPOCH_MS + 100 * WINDOW_MS)
        while worker.batch().expired:
            pass
        assert worker.kinds_kept() <= {state.META, entries.SCHEMA}


@given(histories())
@settings(max_examples=60, deadline=None)
def test_nothing_is_left_of_a_history_that_has_left_the_window(history: History) -> None:
    with a_worker() as worker:
        for batch in history.batches:
            worker.batch(*map(message, batch))
        worker.all_topics_reach(EPOCH_MS + 100 * WINDOW_MS)
        while worker.batch().expired:
            pass
        assert worker.kinds_kept() <= {state.META, entries.SCHEMA}


@given(histories())
@settings(max_examples=60, deadline=None)
def test_a_dropped_batch_that_is_read_again_changes_nothing(history: History) -> None:
    expected = join.batch(history.records, WINDOW)
    with a_worker() as worker:
        for batch in history.batches:
            worker.match(*map(message, batch))
            worker.batch(*map(message, batch))
        assert by_id(worker.derived) == by_id(expected.derived)
        assert places(worker.conflicts) == places(expected.conflicts)
        worker.all_topics_reach(EPOCH_MS + 100 * WINDOW_MS)
        worker.match()
        while worker.batch().expired:
            pass
        assert worker.kinds_kept() <= {state.META, entries.SCHEMA}


def test_entries_are_forgotten_although_the_batch_that_forgot_them_first_was_dropped(worker: Worker) -> None:
    worker.batch(message(arrived("Prediction", prediction())))
    worker.all_topics_reach(EPOCH_MS + 3 * WINDOW_MS)
    dropped = worker.match()
    assert dropped.expired
    assert worker.batch().expired == dropped.expired
    assert worker.kinds_kept() == {state.META, entries.SCHEMA}


def test_an_entry_that_is_due_in_its_own_batch_is_forgotten_later(worker: Worker) -> None:
    at = EPOCH_MS + 3 * WINDOW_MS
    worker.batch(message(arrived("Correction", correction(), 0, EPOCH_MS + 10)))
    worker.batch(
        message(arrived("Grade", grade(), 0, EPOCH_MS)),  # this topic was behind, and is read to its end at once
        message(arrived("Grade", grade("u"), 1, at)),
        message(arrived("Correction", correction("u"), 1, at)),
        message(arrived("Prediction", prediction("u"), 0, at)),
    )
    worker.all_topics_reach(at + 3 * WINDOW_MS)
    while worker.batch().expired:
        pass
    assert worker.kinds_kept() == {state.META, entries.SCHEMA}


def test_copies_are_counted_and_dropped(worker: Worker) -> None:
    event = prediction()
    worker.batch(message(arrived("Prediction", event, 0)), message(arrived("Prediction", event, 1)))
    matched = worker.batch(message(arrived("Prediction", {**event, "occurred_at": 5}, 2)))
    assert worker.duplicates == {TOPIC["Prediction"]: 2}
    assert not matched.conflicts
    assert not matched.counts


def test_each_conflict_is_reported_once_and_the_first_copy_stays(worker: Worker) -> None:
    worker.batch(
        message(arrived("Prediction", prediction(), 0)),
        message(arrived("Prediction", prediction(segment="nyt"), 1)),
        message(arrived("Correction", correction(), 0)),
        message(arrived("Correction", correction(verdict="REJECTED"), 1)),
    )
    worker.batch(message(arrived("Prediction", prediction(segment="nyt"), 2)))
    assert [(each.record, each.offset) for each in worker.conflicts] == [
        ("Prediction", 1),
        ("Correction", 1),
        ("Prediction", 2),
    ]
    assert [each.event["segment"] for each in worker.derived] == ["amazon"]


def test_small_copies_of_large_predictions_are_too_much_by_what_is_stored(worker: Worker) -> None:
    large = {"content_type": "text/plain", "body": "x" * 10_000}
    worker.batch(*(message(arrived("Prediction", prediction(f"t{i}", input=large), i)) for i in range(10)))
    copies = columns([message(arrived("Prediction", prediction(f"t{i}"), 10 + i)) for i in range(10)])
    with pytest.raises(TooMuch):
        worker.matcher.match([], worker.meta, [copies], 50_000)
    worker.batch(columns=[copies])
    assert len(worker.conflicts) == 10


def test_a_prediction_of_another_task_with_the_same_id_is_not_the_one(worker: Worker) -> None:
    worker.batch(message(arrived("Prediction", prediction("other", "p"))))
    worker.batch(message(arrived("Correction", correction("t", "p"))), message(arrived("Grade", grade("t", "p"))))
    assert worker.derived == []
    worker.batch(message(arrived("Prediction", prediction("t", "p"), 1)))
    assert [each.event["task_id"] for each in worker.derived] == ["t", "t"]


@pytest.mark.parametrize("first", ["Prediction", "Correction"])
@pytest.mark.parametrize(("apart", "pairs"), [(WINDOW_MS, 1), (WINDOW_MS + 1, 0)])
def test_the_window_ends_at_exactly_its_length_after_expiry_ran(
    worker: Worker, first: str, apart: int, pairs: int
) -> None:
    events: dict[str, Record] = {"Prediction": prediction(), "Correction": correction()}
    second = "Correction" if first == "Prediction" else "Prediction"
    worker.batch(message(arrived(first, events[first])))
    worker.all_topics_reach(EPOCH_MS + apart)
    worker.batch()
    worker.batch(message(arrived(second, events[second], arrived_at=EPOCH_MS + apart)))
    assert len(worker.derived) == pairs


def test_nothing_is_forgotten_before_the_slowest_topic_has_passed_the_window(worker: Worker) -> None:
    worker.batch(message(arrived("Prediction", prediction())))
    worker.all_topics_reach(EPOCH_MS + 9 * WINDOW_MS)
    worker.meta.watermarks[TOPIC["Grade"]] = EPOCH_MS + WINDOW_MS
    worker.batch()
    assert list(worker.store.scan(entries.PREDICTION))
    worker.meta.watermarks[TOPIC["Grade"]] = EPOCH_MS + WINDOW_MS + 1
    worker.batch()
    assert not list(worker.store.scan(entries.PREDICTION))


def test_nothing_is_forgotten_while_a_topic_was_never_read(worker: Worker) -> None:
    worker.batch(message(arrived("Prediction", prediction())))
    worker.all_topics_reach(EPOCH_MS + 9 * WINDOW_MS)
    del worker.meta.watermarks[TOPIC["Grade"]]
    assert worker.batch().expired == 0


def test_a_later_feedback_still_finds_its_prediction_when_an_earlier_one_was_forgotten(worker: Worker) -> None:
    later = EPOCH_MS + WINDOW_MS // 2
    worker.batch(message(arrived("Correction", correction(), 0)))
    worker.batch(message(arrived("Grade", grade(), 0, arrived_at=later)))
    at = EPOCH_MS + WINDOW_MS + 1
    worker.all_topics_reach(at)
    assert worker.batch().expired == 2  # the correction, and its older mark
    worker.batch(message(arrived("Prediction", prediction(), 0, arrived_at=at)))
    assert [each.record for each in worker.derived] == ["GradedExample"]


@pytest.mark.parametrize("together", [1, 7, 40])
def test_all_feedback_that_waits_for_one_prediction_is_paired_however_much_it_is(worker: Worker, together: int) -> None:
    waiting = [message(arrived("Correction", correction(correction_id=f"c{i}"), i)) for i in range(40)]
    for i in range(0, 40, together):
        worker.batch(*waiting[i : i + together])
    worker.batch(message(arrived("Prediction", prediction())))
    assert sorted(by_id(worker.derived)) == sorted(pair_id(each.arrived) for each in waiting)
    worker.batch(*waiting)
    assert worker.duplicates == {TOPIC["Correction"]: 40}
    assert len(worker.derived) == 40


def test_one_batch_forgets_a_bounded_number_of_entries(worker: Worker) -> None:
    for start in range(0, 3000, 1000):
        worker.batch(*[message(arrived("Prediction", prediction(f"t{i}"), i)) for i in range(start, start + 1000)])
    worker.all_topics_reach(EPOCH_MS + 3 * WINDOW_MS)
    forgotten = [worker.batch().expired for _ in range(4)]
    assert forgotten == [1001, 1000, 1000, 0]  # one of them is the cell
    at = EPOCH_MS + 6 * WINDOW_MS
    assert worker.batch(message(arrived("Prediction", prediction(), 3000, arrived_at=at))).expired == 0


def test_the_trace_of_the_feedback_goes_with_the_pair_whichever_came_first(worker: Worker) -> None:
    worker.batch(message(arrived("Correction", correction()), b"trace of the correction"))
    matched = worker.batch(message(arrived("Prediction", prediction()), b"trace of the prediction"))
    matched.pairs += worker.batch(message(arrived("Grade", grade()), b"trace of the grade")).pairs
    assert [pair.feedback.traceparent for pair in matched.pairs] == [b"trace of the correction", b"trace of the grade"]


def test_a_header_too_long_to_be_a_trace_is_no_reason_to_fail(worker: Worker) -> None:
    worker.batch(message(arrived("Correction", correction()), b"x" * 70_000))
    (pair,) = worker.batch(message(arrived("Prediction", prediction()))).pairs
    assert pair.feedback.traceparent == b"x" * 70_000


def test_a_feedback_s_bytes_are_kept_only_while_it_waits(worker: Worker) -> None:
    def kept() -> bytes:
        ((_, stored),) = worker.store.scan(entries.FEEDBACK)
        return entries.Entry.unpack(stored).value

    waiting = message(arrived("Correction", correction()))
    worker.batch(waiting)
    assert kept() == waiting.value
    worker.batch(message(arrived("Prediction", prediction())))
    assert kept() == b""


def test_bytes_of_an_older_schema_are_read_from_the_state_without_the_catalog(worker: Worker) -> None:
    older = json.loads(codec.bundled("Correction").text)
    older["fields"] = [field for field in older["fields"] if field["name"] != "error_category"]
    schema = codec.Schema(json.dumps(older))
    body = io.BytesIO()
    event = correction()
    fastavro.schemaless_writer(body, schema.parsed, {k: v for k, v in event.items() if k != "error_category"})
    worker.batch(Message.of(arrived("Correction", event), wire.frame(77, body.getvalue()), schema))
    worker.matcher = Matcher(worker.store, dict(TOPIC), WINDOW_MS)
    worker.batch(message(arrived("Prediction", prediction())))
    assert [each.event["reason"] for each in worker.derived] == ["sarcasm"]


def test_a_matcher_keeps_no_decoded_event_between_batches(worker: Worker) -> None:
    matched = worker.batch(
        *[message(arrived("Prediction", prediction(f"t{i}"), i)) for i in range(10)],
        *[message(arrived("Correction", correction(f"t{i}"), i)) for i in range(10)],
    )
    assert len(matched.pairs) == 10
    del matched
    worker.derived.clear()
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, Arrived | Derived | Message)] == []


def test_nothing_is_written_by_matching_alone(worker: Worker) -> None:
    worker.match(message(arrived("Prediction", prediction())))
    assert worker.kinds_kept() == set()


def test_counts_are_absolute_and_follow_the_winning_review(worker: Worker) -> None:
    cell = rates.cell_of(prediction())
    worker.batch(message(arrived("Prediction", prediction())), message(arrived("Grade", grade(passed=False))))
    assert worker.counts == {cell: Counts(predictions=1, reviewed=1, failures=1)}
    worker.batch(message(arrived("Correction", correction(verdict="CONFIRMED"))))
    assert worker.counts == {cell: Counts(predictions=1, reviewed=1, failures=0)}
    worker.batch(message(arrived("Prediction", prediction("u"), 1)))
    assert worker.counts == {cell: Counts(predictions=2, reviewed=1, failures=0)}


@pytest.mark.parametrize("first", ["Prediction", "Correction"])
@pytest.mark.parametrize(("early", "reviewed"), [(1, 1), (0, 0)])
def test_feedback_that_arrives_when_the_minute_closes_is_paired_and_not_counted(
    worker: Worker, first: str, early: int, reviewed: int
) -> None:
    cell = rates.cell_of(prediction())
    at = rates.closes_at(cell, WINDOW_MS) - early
    both = [message(arrived("Prediction", prediction())), message(arrived("Correction", correction(), arrived_at=at))]
    for each in both if first == "Prediction" else reversed(both):
        worker.batch(each)
    assert len(worker.derived) == 1
    assert worker.counts == {cell: Counts(predictions=1, reviewed=reviewed, failures=reviewed)}
