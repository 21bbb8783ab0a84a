"""Something slow to ask: its latest answer at once, a newer one looked for in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SHARE = 0.25
"""Of the time, that asking may take at most."""


class Refreshed(Generic[T]):
    """Asks only when somebody wants to know, never twice at a time, and at most once in `every` seconds."""

    def __init__(self, ask: Callable[[], T], every: float) -> None:
        """`ask` is called in threads of its own; what it raises is raised to who waits for it."""
        self._ask = ask
        self._every = every
        self._changed = threading.Condition()
        self._asking = False
        self._due = 0.0
        self._answers = 0
        self._answer: T | None = None
        self._error: BaseException | None = None

    def latest(self) -> T | None:
        """The last answer, None before the first. Raises what the last attempt raised."""
        with self._changed:
            self._begin()
            if self._error is not None:
                raise self._error
            return self._answer

    def wait(self, seconds: float) -> T:
        """An answer that is as new as may be. Raises TimeoutError, and what asking raised."""
        with self._changed:
            seen = self._answers
            self._begin()
            if self._asking and not self._changed.wait_for(lambda: self._answers > seen, seconds):
                raise TimeoutError
            if self._error is not None:
                raise self._error
            assert self._answers and self._answer is not None
            return self._answer

    def _begin(self) -> None:
        if not self._asking and time.monotonic() >= self._due:
            self._asking = True
            # a daemon: whoever stops does not wait for what is slow
            threading.Thread(target=self._run, name="refresh", daemon=True).start()

    def _run(self) -> None:
        began = time.monotonic()
        answer, error = None, None
        try:
            answer = self._ask()
        except BaseException as raised:
            error = raised
        with self._changed:
            took = time.monotonic() - began
            self._due = time.monotonic() + max(self._every, took / SHARE - took)
            self._answer, self._error = answer, error
            self._asking = False
            self._answers += 1
            self._changed.notify_all()
