"""How large a folder is, for status pages: looked up now and then, not each time somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_FRESH_SECONDS = 5.0


class FolderSize:
    """Bytes of the files in a folder; a call, from any thread, gives what is at most five seconds old."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._fresh_until: float | None = None
        self._bytes = 0

    def __call__(self) -> int:
        now = self._clock()
        if self._fresh_until is None or now >= self._fresh_until:
            self._fresh_until = now + _FRESH_SECONDS
            self._bytes = bytes_in(self._path)
        return self._bytes


def bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder, 0 where there is none."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):  # a database deletes what it has merged
                total += file.stat().st_size
    return total
