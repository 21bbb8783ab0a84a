"""How long a batch gathers: from one transaction to the next, whatever came before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.strategies import prediction
from tests.streams.records import raw
from tests.streams.stage import Stage

INTERVAL = 0.1


@pytest.mark.parametrize("seconds_a_look", [0.0, 0.001, 0.07])
def test_after_a_backlog_of_full_batches_none_waits_longer_than_an_interval(
    tmp_path: Path, seconds_a_look: float
) -> None:
    waits: list[float] = []
    with closing(Stage(tmp_path, transaction_interval="100ms", batch_events=5, partitions=1)) as stage:
        worker = stage.worker()
        stage.settle(worker)
        stage.send(*(raw("Prediction", prediction(f"t{i}")) for i in range(500)))
        stage.seconds_a_look = seconds_a_look
        assert worker.engine is not None
        assert worker.engine._assignment is not None
        consumer = worker.engine._assignment.consumer

        def consume(many: int, timeout: float) -> Sequence[Any]:
            waits.append(timeout)
            return found(many, timeout)

        found = consumer.consume
        with patch.object(consumer, "consume", consume):
            stage.settle(worker)
            worker.step()
    assert max(waits) <= INTERVAL
