"""Whole columns of keys go where each key goes by itself."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas.murmur import partitions_for
from flyback.streams.topology import partition_for


@given(st.lists(st.none() | st.binary(max_size=40), max_size=60), st.integers(1, 200))
@settings(deadline=None)
def test_keys_of_any_lengths_go_where_each_goes_by_itself(keys: list[bytes | None], partitions: int) -> None:
    expected = [None if key is None else partition_for(key, partitions) for key in keys]
    assert partitions_for(pa.array(keys, pa.binary()), partitions).to_pylist() == expected


@given(st.data(), st.integers(0, 40) | st.just(300), st.integers(1, 200))
@settings(deadline=None)
def test_keys_of_one_length_go_where_each_goes_by_itself(data: st.DataObject, length: int, partitions: int) -> None:
    keys = data.draw(st.lists(st.binary(min_size=length, max_size=length), min_size=16, max_size=60))
    expected = [partition_for(key, partitions) for key in keys]
    assert partitions_for(pa.array(keys, pa.binary()), partitions).to_pylist() == expected


def test_no_keys_go_nowhere() -> None:
    assert partitions_for(pa.array([], pa.binary()), 4).to_pylist() == []
