"""A cemetery over the topics of an installation."""

from __future__ import annotations

import pytest

from flyback.settings import Settings
from tests.replay.cemetery import Cemetery


@pytest.fixture
def settings(installation: Settings) -> Settings:
    return installation


@pytest.fixture
def cemetery(settings: Settings) -> Cemetery:
    return Cemetery(settings)
