"""Buckets that are compressed hold what was put into them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.streams.packed import Packed

puts = st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=3), st.binary(max_size=3)))


@settings(deadline=None)
@given(puts, st.integers(0, 4))
def test_whatever_is_packed_meanwhile_the_last_value_of_a_key_is_found(
    given: list[tuple[int, bytes, bytes]], most_open: int
) -> None:
    packed, expected = Packed[int](most_open), dict[int, dict[bytes, bytes]]()
    for bucket, key, value in given:
        packed.open(bucket)[key] = value
        expected.setdefault(bucket, {})[key] = value
        packed.pack()
    assert {bucket: packed.open(bucket) for bucket in expected} == expected


def test_no_more_entries_are_open_than_may_be() -> None:
    packed = Packed[int](10)
    for bucket in range(20):
        packed.open(bucket)[b"key"] = b"value"
    packed.pack()
    assert (list(packed._open), len(packed._packed)) == (list(range(10, 20)), 10)
    packed.open(0)
    packed.pack()
    assert list(packed._open) == [*range(11, 20), 0]


def test_what_is_forgotten_is_gone_whether_it_was_packed_or_not() -> None:
    packed = Packed[int](1)
    for bucket in range(3):
        packed.open(bucket)[b"key"] = b"value"
    packed.pack()
    packed.forget(lambda bucket: bucket != 1)
    assert [packed.open(bucket) for bucket in range(3)] == [{}, {b"key": b"value"}, {}]
