"""Events to columns and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.sinks.columns import from_records, to_records
from tests.strategies import correction, prediction, valid_event


def batch(table: pa.Table) -> pa.RecordBatch:
    (found,) = table.combine_chunks().to_batches()
    return found


@pytest.mark.parametrize("record", ["Prediction", "Correction", "Grade"])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_rows_are_read_back_as_the_events_that_they_were(record: str, data: st.DataObject) -> None:
    events = data.draw(st.lists(valid_event(record), min_size=1, max_size=4))
    assert to_records(record, batch(from_records(record, events))) == events


def test_a_field_younger_than_its_row_has_the_default_that_a_reader_of_the_bytes_would_see() -> None:
    table = from_records("Prediction", [prediction(), prediction("u")])
    young: dict[str, Any] = {"segment": "default", "attributes": {}, "context": [], "confidence": None}
    for name in young:
        i = table.schema.get_field_index(name)
        table = table.set_column(i, name, pa.nulls(2, table.schema.field(i).type))
    assert to_records("Prediction", batch(table)) == [prediction(**young), prediction("u", **young)]


def test_what_is_absent_stays_absent_and_other_columns_are_left_out() -> None:
    table = from_records("Correction", [correction(verdict="REJECTED", reason=None)])
    table = table.append_column("_offset", pa.array([7]))
    assert to_records("Correction", batch(table)) == [correction(verdict="REJECTED", reason=None)]
