"""An installation whose topics are made, on real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyback import topics
from flyback.settings import Settings, load


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Of an installation whose topics are made."""
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=2,
        session_timeout="6s",
        transaction_timeout="6s",
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
        commit_interval="200ms",
        maintenance_interval="0s",
    )
    topics.create(found)
    return found
