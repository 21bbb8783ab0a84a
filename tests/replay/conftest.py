"""Topics of two partitions, and a cemetery over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyback import topics
from flyback.settings import Settings, load
from tests.replay.cemetery import Cemetery


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=2,
        state_dir=tmp_path / "state",
        session_timeout="6s",
    )
    topics.create(found)
    return found


@pytest.fixture
def cemetery(settings: Settings) -> Cemetery:
    return Cemetery(settings)
