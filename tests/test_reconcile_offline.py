"""What reconcile finds in a lake written by hand: content to the byte, pairs too large, rows without raw events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flyback.errors import FlybackError
from flyback.history import Place
from flyback.reconcile import NAMED, Finding, _derived, compare
from flyback.reconcile.compare import Comparison
from flyback.reconcile.spool import Spool
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Record
from flyback.settings import load
from flyback.sinks.lake import lake
from flyback.streams.join import Arrived, batch
from flyback.streams.outputs import Output, Outputs
from flyback.streams.topology import Kind, Topology
from tests.sinks.lakes import HandMade
from tests.strategies import correction, grade, prediction, valid_event

SETTINGS = load(join_window="1s", max_event_bytes=200_000)
TOPOLOGY = Topology(SETTINGS)
OUTPUTS = Outputs(SETTINGS, TOPOLOGY, BundledCatalog())
TABLES = {"Prediction": "predictions", "Correction": "corrections", "Grade": "grades"}
PERSON = {"kind": "HUMAN", "name": "zoe", "version": ""}
EVERYTHING = 10**9
numbers = count()


def ends(**changed: int) -> dict[Place, int]:
    """The next offsets of partition 0 of the raw topics; all that is there, unless changed."""
    return {(TOPOLOGY.topic_of(record), 0): changed.get(record, EVERYTHING) for record in TABLES}


class Found:
    """What reconcile would write, and what it says."""

    def __init__(self, comparison: Comparison) -> None:
        self.findings = {topic: Finding(topic) for topic in TOPOLOGY.of(Kind.DERIVED)}
        derived = _derived(SETTINGS, comparison, OUTPUTS, set(), self.findings, lambda *_: None)
        self.outputs: list[Output] = list(derived)
        self.without_raw = {topic: comparison.without_raw(topic, NAMED) for topic in self.findings}


@contextmanager
def opened(made: HandMade, folder: Path, **changed: int) -> Iterator[Comparison]:
    with lake(made.path) as tables:
        yield Comparison(tables, TOPOLOGY, ends(**changed), str(folder))


def find(made: HandMade, folder: Path, **changed: int) -> Found:
    with opened(made, folder, **changed) as comparison:
        return Found(comparison)


def streamed(events: dict[str, list[Record]]) -> list[Output]:
    """What the stream would write of these, at the places that `HandMade` gives them."""
    records = [
        Arrived(record, event, TOPOLOGY.topic_of(record), 0, offset, 1_760_000_000_000 + offset)
        for record, found in events.items()
        for offset, event in enumerate(found)
    ]
    return [
        Output(
            TOPOLOGY.topic_of(derived.record),
            0,
            derived.event["task_id"].encode(),
            codec.encode(derived.record, derived.event, BundledCatalog().id_for(derived.record, "")),
            source=derived.event["feedback_source"]["topic"],
        )
        for derived in batch(records, None).derived
    ]


def a_lake(path: Path, **events: list[Record]) -> HandMade:
    made = HandMade(path / f"lake-{next(numbers)}")
    for record, found in events.items():
        made.add(TABLES.get(record, record), *found)
    return made


@st.composite
def histories(draw: st.DrawFn) -> dict[str, list[Record]]:
    """Any valid content, feedback for most predictions, copies of some."""
    predictions = draw(st.lists(valid_event("Prediction"), min_size=1, max_size=8))
    found: dict[str, list[Record]] = {"Prediction": predictions}
    for record in ("Correction", "Grade"):
        given_to = st.tuples(valid_event(record), st.sampled_from(predictions))
        found[record] = [
            event | {name: about[name] for name in ("task_id", "prediction_id")}
            for event, about in draw(st.lists(given_to, max_size=8))
        ]
    copied = draw(st.sampled_from([*predictions, None]))
    predictions += [copied] if copied else []
    return found


@given(events=histories())
@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_writes_byte_for_byte_what_the_stream_would(events: dict[str, list[Record]], tmp_path: Path) -> None:
    found = find(a_lake(tmp_path, **events), tmp_path)
    assert sorted(found.outputs, key=repr) == sorted(streamed(events), key=repr)


def test_a_pair_that_has_its_row_is_not_missing(tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "Prediction": [prediction("t"), prediction("h", actor=PERSON)],
        "Correction": [correction("t"), correction("h")],
        "Grade": [grade("t"), grade("h")],
    }
    derived: dict[str, list[Record]] = {}
    for output in streamed(raw):
        record = str(TOPOLOGY[output.topic].record)
        table = {"Example": "examples", "GradedExample": "graded_examples", "Coaching": "coaching"}[record]
        assert output.value is not None
        derived.setdefault(table, []).append(codec.decode(record, output.value, codec.bundled(record)))
    found = find(a_lake(tmp_path, **raw, **derived), tmp_path)
    assert found.outputs == []
    assert all(rows == (0, []) for rows in found.without_raw.values())


def test_feedback_behind_the_ends_is_left_to_the_stream(tmp_path: Path) -> None:
    made = a_lake(tmp_path, Prediction=[prediction()], Correction=[correction(correction_id=f"{i}") for i in range(5)])
    assert len(find(made, tmp_path, Correction=3).outputs) == 3
    assert find(made, tmp_path, Prediction=0).outputs == []


def test_it_says_which_pairs_came_too_late(tmp_path: Path) -> None:
    made = HandMade(tmp_path / "lake")
    made.add("predictions", prediction())
    made.add("corrections", *(correction(correction_id=f"{i}") for i in range(1_002)))  # one a millisecond
    found = find(made, tmp_path).findings[TOPOLOGY.topic_of("Example")]
    assert (found.late, found.other, found.missing) == (1, 1_001, 1_002)
    assert SETTINGS.join_window == timedelta(seconds=1)


def test_a_pair_too_large_for_its_topic_is_named_and_not_written(tmp_path: Path) -> None:
    large = {"content_type": "text/plain", "body": "x" * 190_000}
    made = a_lake(
        tmp_path,
        Prediction=[prediction(output=large)],
        # confirmed, the answer is the truth as well
        Correction=[correction(verdict="CONFIRMED", attributes={"note": "y" * 190_000}), correction(correction_id="d")],
    )
    found = find(made, tmp_path)
    example = found.findings[TOPOLOGY.topic_of("Example")]
    assert len(found.outputs) == 1
    assert (example.missing, example.too_large, len(example.too_large_ids)) == (2, 1, 1)
    assert all(len(output.value or b"") < TOPOLOGY.derived_max_bytes for output in found.outputs)


def test_where_events_may_be_large_few_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(record: str, rows: pa.StructArray) -> list[Arrived]:
        read.append(len(rows))
        return arrived(record, rows)

    arrived = compare._arrived
    monkeypatch.setattr(compare, "_arrived", counting)
    corrections = [correction(correction_id=f"{i}") for i in range(20)]
    made = a_lake(tmp_path, Prediction=[prediction()], Correction=corrections)
    with lake(made.path) as tables:
        large = Topology(SETTINGS.model_copy(update={"max_event_bytes": 8_000_000}))
        assert len(list(Comparison(tables, large, ends(), str(tmp_path)).missing())) == 20
    assert max(read) * large.derived_max_bytes <= 128_000_000


def test_derived_rows_whose_raw_events_are_not_in_the_lake_are_named(tmp_path: Path) -> None:
    raw: dict[str, list[Record]] = {
        "Prediction": [prediction("a"), prediction("b"), prediction("c")],
        "Correction": [correction("a"), correction("b"), correction("c")],
    }
    rows = [codec.decode("Example", o.value or b"", codec.bundled("Example")) for o in streamed(raw)]
    kept = a_lake(tmp_path, Prediction=raw["Prediction"][:2], Correction=raw["Correction"][:1], examples=rows)
    topic = TOPOLOGY.topic_of("Example")
    assert find(kept, tmp_path).without_raw[topic] == (2, sorted(row["example_id"] for row in rows[1:]))
    # what is behind the ends may not have landed yet
    assert find(kept, tmp_path, Prediction=3, Correction=2).without_raw[topic] == (1, [rows[1]["example_id"]])


def test_a_full_disk_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: Path("/dev/full").open("w+b"))  # noqa: SIM115
    with pytest.raises(FlybackError, match="TMPDIR"), Spool() as spool:
        spool.add(Output("t", 0, b"t", b"v"))
        list(spool)
