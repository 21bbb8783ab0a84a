"""The real worker or sink, which kills itself by SIGKILL at a named step.

    CHAOS_KILL_FILE=/tmp/kill python -m tests.chaos.killpoints worker
    echo before_commit:17:0 > /tmp/kill

Until that file appears it is `flyback worker`, with a look for the file at each step. Then the file is taken away, so
that whoever is started next is not killed again, passings of the step are counted, and at the 17th the process ends:
at once, or, where the step takes a while, so many milliseconds after it began (`during_commit:17:3.5`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

FILE = "CHAOS_KILL_FILE"
SIGNAL = "CHAOS_KILL_SIGNAL"
"""SIGKILL by default; by SIGSTOP the process freezes at the step."""

WORKER_STEPS = (
    "before_produce",
    "during_produce",
    "after_produce",
    "before_offsets",
    "before_commit",
    "during_commit",
    "after_commit",
    "after_one_state_write",
    "after_state_write",
)
RESTORE_STEPS = ("during_replay", "before_live")
SINK_STEPS = ("before_decode", "after_decode", "before_lake_commit", "during_lake_commit", "after_lake_commit")
MAINTENANCE_STEPS = ("during_compaction", "after_compaction", "during_vacuum", "during_log_cleanup")


@dataclass(frozen=True)
class KillPoint:
    """Where to end: the `passing`-th time (from 1) that `step` is passed, `delay_ms` after that."""

    step: str
    passing: int = 1
    delay_ms: float = 0.0

    def __str__(self) -> str:
        return f"{self.step}:{self.passing}:{self.delay_ms:g}"

    @classmethod
    def parse(cls, text: str) -> KillPoint:
        step, passing, delay_ms = text.strip().split(":")
        return cls(step, int(passing), float(delay_ms))

    def arm(self, file: Path) -> None:
        """Let the process that watches `file` end here."""
        aside = file.with_suffix(".new")
        aside.write_text(str(self), encoding="utf-8")
        aside.replace(file)  # it must not read half of it


class Trigger:
    """Wraps functions so that calling them passes a step, and kills at the one that the file names."""

    def __init__(self, file: Path, kill: Callable[[], None]) -> None:
        self._file = file
        self._kill = kill
        self._point: KillPoint | None = None
        self._passed = 0
        self._lock = threading.Lock()

    def passing(self, step: str) -> None:
        """In any thread."""
        with self._lock:
            if self._point is None and self._file.exists():
                self._point = KillPoint.parse(self._file.read_text(encoding="utf-8"))
                self._file.unlink()
            point = self._point
            if point is None or point.step != step:
                return
            self._passed += 1
            if self._passed != point.passing:
                return
        if point.delay_ms:
            timer = threading.Timer(point.delay_ms / 1000, self._end, (point,))
            timer.daemon = True
            timer.start()
        else:
            self._end(point)

    def before(self, owner: Any, name: str, *steps: str) -> None:
        """Let `owner.name(...)` pass the steps before it begins."""
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*args: Any, **named: Any) -> Any:
            for step in steps:
                self.passing(step)
            return original(*args, **named)

        setattr(owner, name, wrapped)

    def after(self, owner: Any, name: str, step: str) -> None:
        """Let `owner.name(...)` pass the step after it has ended well."""
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*args: Any, **named: Any) -> Any:
            result = original(*args, **named)
            self.passing(step)
            return result

        setattr(owner, name, wrapped)

    def _end(self, point: KillPoint) -> None:
        os.write(2, f"killed at {point}\n".encode())
        self._kill()


def wrap_worker(trigger: Trigger) -> None:
    """Let the engine pass its steps."""
    import confluent_kafka

    from flyback.streams.assignment import Assignment
    from flyback.streams.engine import Engine
    from flyback.streams.transactions import Transactions

    class Producer(confluent_kafka.Producer):
        """Methods of the original, which is C, cannot be replaced."""

        def send_offsets_to_transaction(self, *args: Any) -> None:
            trigger.passing("after_produce")
            self.flush()  # now all of it is in the brokers' logs, in a transaction that stays open
            trigger.passing("before_offsets")
            super().send_offsets_to_transaction(*args)

    confluent_kafka.Producer = Producer  # type: ignore[misc]
    trigger.before(Transactions, "commit", "before_produce")
    trigger.before(Transactions, "_produce", "during_produce")
    trigger.before(Producer, "commit_transaction", "before_commit", "during_commit")
    trigger.after(Producer, "commit_transaction", "after_commit")
    trigger.after(Engine, "_write", "after_one_state_write")
    trigger.after(Engine, "_remember", "after_state_write")
    trigger.after(Engine, "_replay", "during_replay")
    trigger.before(Assignment, "go_live", "before_live")


def wrap_sink(trigger: Trigger) -> None:
    """Let the sink and its maintenance pass their steps."""
    from deltalake import DeltaTable
    from deltalake.table import TableOptimizer

    from flyback.sinks import sink, tables

    trigger.before(sink.Sink, "_rows_of", "before_decode")
    trigger.after(sink.Sink, "_rows_of", "after_decode")
    trigger.before(tables.TableWriter, "commit", "before_lake_commit")
    trigger.before(tables, "write_deltalake", "during_lake_commit")
    trigger.after(tables.TableWriter, "commit", "after_lake_commit")
    trigger.before(TableOptimizer, "compact", "during_compaction")
    trigger.after(TableOptimizer, "compact", "after_compaction")
    trigger.before(DeltaTable, "vacuum", "during_vacuum")
    trigger.before(DeltaTable, "cleanup_metadata", "during_log_cleanup")


WRAP = {"worker": wrap_worker, "sink": wrap_sink}


def _end_by(number: signal.Signals) -> None:
    """By this thread: sent to the process, a SIGSTOP lets it run on until another thread has taken the signal."""
    signal.pthread_kill(threading.get_ident(), number)


def main() -> None:
    from flyback.cli.entry import main as run

    number = signal.Signals[os.environ.get(SIGNAL, "SIGKILL")]
    WRAP[sys.argv[1]](Trigger(Path(os.environ[FILE]), lambda: _end_by(number)))
    run()


if __name__ == "__main__":
    main()
