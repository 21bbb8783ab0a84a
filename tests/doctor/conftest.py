"""What is examined: an installation whose topics are made."""

from __future__ import annotations

import pytest

from flyback.settings import Settings


@pytest.fixture
def settings(installation: Settings) -> Settings:
    return installation
