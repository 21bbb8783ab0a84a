from __future__ import annotations

import pytest

from benchmarks import engine
from benchmarks.engine import Field

EVENTS = 600


@pytest.fixture(scope="module")
def field(kafka_bootstrap: str) -> Field:
    """Topics that hold a small workload; what is derived from it is made new by each contender, or by `renew`."""
    return engine.filled(kafka_bootstrap, EVENTS)
