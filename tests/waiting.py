"""Waiting for what happens in another process: by a condition and a deadline, never by a plain sleep."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return once `condition()` is true; fail the test, naming `what` was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
