"""docs/sdk.md is executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flyback import topics
from flyback.settings import load
from tests.sdk.reading import read

PAGE = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_every_block_of_the_sdks_page_runs_and_its_events_arrive(
    kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, partitions=4)
    topics.create(settings)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 9
    page: dict[str, Any] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), page)

    predictions = read(kafka_bootstrap, topic_prefix, "predictions", 3)
    assert sorted(found.event["task_id"] for found in predictions) == ["t-1", "t-2", "t-4"]
    corrections = read(kafka_bootstrap, topic_prefix, "corrections", 8)
    assert [found.event["correction_id"] for found in corrections].count("review-4711") == 2
    assert len(read(kafka_bootstrap, topic_prefix, "grades", 1)) == 1
    assert page["stats"].sent == 11
