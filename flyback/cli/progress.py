"""Progress on stderr: bars on a terminal; elsewhere a line a finished step, and every ten seconds of a long one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flyback.cli import output

_QUIET_SECONDS = 10.0


class Steps:
    """A callable `(step, done, total)` that shows how far each step is; `names` says what a step is called."""

    def __init__(self, names: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._names = names
        self._clock = clock
        self._said_at = clock()
        self._console = output.stderr()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        name = self._names.get(step, step)
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        if self._console.is_terminal:
            return
        if done >= total and step not in self._finished:
            self._finished.add(step)
            self._say(f"{name}: {total:,}" if total > 1 else name)
        elif done < total and self._clock() - self._said_at >= _QUIET_SECONDS:
            self._say(f"{name}: {done:,} of {total:,}")

    def _say(self, line: str) -> None:
        output.note(line)
        self._said_at = self._clock()
