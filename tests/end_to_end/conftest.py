"""Flyback as people run it: `python -m flyback worker` and `sink`, over real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flyback import topics
from flyback.settings import load
from tests.end_to_end.site import Site

StartSite = Callable[..., Site]


@pytest.fixture
def start_site(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Iterator[StartSite]:
    """Call it with settings for a site with topics of its own (`create=False`: without); it ends with the test."""
    with ExitStack() as stack:

        def start(create: bool = True, **given: Any) -> Site:
            settings = load(
                **{
                    "bootstrap_servers": kafka_bootstrap,
                    "topic_prefix": topic_prefix,
                    "group": topic_prefix,
                    "lake": str(tmp_path / "lake"),
                    "commit_interval": "300ms",
                    "session_timeout": "6s",
                    "transaction_timeout": "6s",
                    **given,
                }
            )
            if create:
                topics.create(settings)
            site = Site(settings, tmp_path)
            stack.callback(site.close)
            return site

        yield start


@pytest.fixture
def site(start_site: StartSite) -> Site:
    """A site with the usual settings."""
    return start_site()
