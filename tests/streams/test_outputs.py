"""What the engine writes, where a test of the whole engine would be the long way round."""

from __future__ import annotations

from flyback.schemas import codec
from flyback.schemas.codec import bundled
from flyback.streams import entries
from flyback.streams.outputs import Outputs
from flyback.streams.rates import Cell, Counts
from tests.strategies import correction, prediction
from tests.streams.records import raw
from tests.streams.stage import Stage

CELL = Cell(60_000_000, "MODEL", "m", "1", "s")


def test_sums_larger_than_an_avro_long_are_kept_exactly_and_written_as_the_largest(stage: Stage) -> None:
    counts = Counts(1, 1, 1, 1, sum_w=10, sum_wy=10, sum_w2=2**63 + 5, sum_w2y=2**70)
    assert entries.unpack_counts(entries.pack_counts(counts)) == counts
    output = Outputs(stage.settings, stage.topology, stage.catalog).rate(0, CELL, counts)
    assert output.value is not None
    written = codec.decode("FailureRate", output.value, bundled("FailureRate"))
    assert (written["sum_w"], written["sum_w2"], written["sum_w2y"]) == (10, 2**63 - 1, 2**63 - 1)


def test_the_dead_letter_of_a_conflict_has_all_headers_of_its_message(stage: Stage) -> None:
    first = raw("Correction", correction("t", reason="one"))
    other = raw("Correction", correction("t", reason="two"), headers=[("tenant", b"x"), ("traceparent", b"00-1")])
    stage.send(raw("Prediction", prediction("t")), first, other)
    stage.settle(stage.worker())
    (letter,) = stage.verdict().letters()
    assert {("tenant", b"x"), ("traceparent", b"00-1")} <= set(letter.headers)
