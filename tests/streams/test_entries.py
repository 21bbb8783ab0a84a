"""What the state keeps: what is packed comes back, and keys sort."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flyback.streams import entries
from flyback.streams.entries import Entry, Mark
from flyback.streams.rates import Cell, Correcting, Counts, Grading, Review

LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=20)
PROBABILITY = st.none() | st.floats(1e-4, 1)


@given(st.builds(Entry, LONG, LONG, st.binary(min_size=16, max_size=16), *[st.binary(max_size=80)] * 3))
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert Entry.unpack(entry.pack()) == entry


@given(st.builds(Counts, *[LONG] * 8))
def test_counts_come_back_as_they_were(counts: Counts) -> None:
    assert entries.unpack_counts(entries.pack_counts(counts)) == counts


@given(
    st.none() | st.builds(Correcting, LONG, LONG, TEXT, st.booleans(), PROBABILITY),
    st.none() | st.builds(Grading, TEXT, st.booleans(), PROBABILITY),
)
def test_a_review_comes_back_as_it_was(correction: Correcting | None, grade: Grading | None) -> None:
    review = Review(correction, grade)
    found = entries.unpack_review(entries.pack_review(review))
    assert found == review
    assert found.counts() == review.counts()


@given(LONG, st.lists(st.binary(min_size=34, max_size=34), max_size=16))
def test_a_mark_comes_back_as_it_was_and_is_none_of_the_entries(arrived_at: int, keys: list[bytes]) -> None:
    packed = Mark(arrived_at, keys).pack()
    assert Mark.unpack(packed) == Mark(arrived_at, keys)
    assert entries.is_mark(packed)
    assert not entries.is_mark(Entry(arrived_at, 0).pack())


def test_a_mark_names_feedback_until_it_is_too_much_and_then_none() -> None:
    keys = [entries.feedback_key(bytes(16), "Grade", str(i)) for i in range(40)]
    mark = Mark(7, keys[:1])
    sizes = []
    for key in keys[1:]:
        mark = mark.plus(5, key)
        sizes.append(len(mark.keys))
    assert mark == Mark(7, [])
    assert sizes[:15] == list(range(2, 17))
    assert not any(sizes[15:])


PART = st.integers(0, 2**32 - 1)


@given(st.tuples(LONG, PART, PART), st.tuples(LONG, PART, PART))
def test_expiry_sorts_by_time_then_by_write_then_by_part(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert (entries.expiry_key(*one) < entries.expiry_key(*other)) == (one < other)


@given(st.integers(1, 40).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)))
def test_keys_that_are_forgotten_together_come_back_as_they_were(keys: list[bytes]) -> None:
    assert entries.unpack_keys(entries.pack_keys(keys)) == keys


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_columns_of_ids_give_the_episodes_that_each_row_gives(ids: list[tuple[str, str]]) -> None:
    tasks, predictions = ([each[i] for each in ids] for i in (0, 1))
    found = entries.episodes_of(pa.array(tasks, pa.string()), pa.array(predictions, pa.string()))
    assert found == [entries.episode_of(*each) for each in ids]


@given(st.lists(st.builds(Entry, LONG, LONG, st.just(bytes(16)), st.binary(), st.binary(), st.binary())))
def test_entries_packed_together_are_packed_as_each_is_by_itself(kept: list[Entry]) -> None:
    names = "arrived_at", "offset", "traceparent", "counted", "value"
    together = entries.pack_entries(*([getattr(entry, name) for entry in kept] for name in names))
    assert list(together) == [entry.pack() for entry in kept]


def test_times_before_1970_sort_first() -> None:
    assert entries.expiry_key(-1, 9) < entries.expiry_key(0) < entries.expiry_key(1)


@given(TEXT, TEXT, TEXT, TEXT)
def test_an_episode_s_key_tells_task_and_prediction_apart(task: str, p: str, other: str, q: str) -> None:
    assert (entries.episode_of(task, p) == entries.episode_of(other, q)) == ((task, p) == (other, q))


def test_ids_that_only_look_alike_when_joined_have_different_keys() -> None:
    assert entries.episode_of("ab", "c") != entries.episode_of("a", "bc")


def test_a_feedback_s_key_tells_what_it_is() -> None:
    episode = entries.episode_of("t", "p")
    keys = {record: entries.feedback_key(episode, record, "x") for record in ("Correction", "Grade")}
    assert len(set(keys.values())) == 2
    assert {entries.feedback_record(key) for key in keys.values()} == set(keys)
    assert all(key.startswith(entries.FEEDBACK + episode) for key in keys.values())


def test_cells_have_different_keys() -> None:
    cells = [Cell(0, "MODEL", "a", "b", "c"), Cell(0, "MODEL", 'a","b', "", "c"), Cell(0, "MODEL", "a", "", "bc")]
    assert len({entries.cell_key(cell) for cell in cells}) == 3
