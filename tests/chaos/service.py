"""A worker or sink that faults are done to: killed, frozen, started with other settings or another module."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyback.local.process import ChildProcess
from tests.end_to_end import site as end_to_end

STOP_SECONDS = 30.0
SIGKILLED, SIGTERMED = 128 + 9, 128 + 15


class Service(end_to_end.Service):
    """Safe to use from several threads: the site's supervisor starts what ended, unless it is `held`."""

    def __init__(self, name: str, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, command, folder, environment)
        self.command = command
        self.folder = folder
        self.environment = dict(environment)
        self.held = False
        """While true the supervisor leaves it alone."""
        self.exits: Counter[int] = Counter()
        """How often it ended with which code; 137 is SIGKILL."""
        self.starts = 0
        self._lock = threading.RLock()
        self._paused = False

    @property
    def state_dir(self) -> Path:
        return Path(self.environment.get("FLYBACK_STATE_DIR", str(self.folder / f"state-{self.name}")))

    @property
    def running(self) -> bool:
        return self.process.running

    @property
    def exit_code(self) -> int | None:
        return self.process.exit_code

    @property
    def kills(self) -> int:
        """How often it has ended by SIGKILL."""
        now = self.process.exit_code if self.exits.total() < self.starts else None
        return self.exits[SIGKILLED] + (now in (-9, SIGKILLED))

    def start(self, module: str = "flyback", **environment: str) -> None:
        """Start it where it does not run. `module` (`python -m MODULE worker|sink`) and variables: for this start."""
        with self._lock:
            if self.process.running:
                return
            self._count()
            ports = {"FLYBACK_WORKER_HTTP_PORT": str(self.port), "FLYBACK_SINK_HTTP_PORT": str(self.port)}
            self.process = ChildProcess(
                self.name,
                [sys.executable, "-m", module, self.command],
                self.log,
                env={**self.environment, **ports, **environment},
                cwd=self.folder,
            )
            self.process.start()
            self.starts += 1
            self._paused = False

    def kill(self) -> None:
        """By SIGKILL, also where it is frozen: nothing is closed, committed or said."""
        with self._lock:
            if self._paused:  # its guard is frozen too, and would not pass the signal on
                self._signal(signal.SIGKILL)
            self.process.kill()
            self._paused = False

    def stop(self) -> None:
        """By SIGTERM, as supervisors do. Raises AssertionError where it does not end with 0.

        One that has just been started may know nothing of signals yet, and end by this one.
        """
        with self._lock:
            if not self.process.running:
                return
            starting = not self.health()
            code = self.process.stop(STOP_SECONDS)
            well = code == 0 or (starting and code in (SIGTERMED, -signal.SIGTERM))  # the latter before its guard knew
            assert well, f"{self.name} ended with {code} after SIGTERM:\n{self.process.log_tail()}"

    def pause(self) -> None:
        """By SIGSTOP: every thread stands still, its connections stay open."""
        with self._lock:
            self._signal(signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        """By SIGCONT."""
        with self._lock:
            self._signal(signal.SIGCONT)
            self._paused = False

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self.held = True
            self.kill()
            self._count()

    def status(self) -> dict[str, Any]:
        """For a failure's report."""
        return {"running": self.running, "held": self.held, "starts": self.starts, "exits": dict(self.exits)}

    def _count(self) -> None:
        """Count the end of the present process, once."""
        code = self.process.exit_code
        if code is not None and self.exits.total() < self.starts:
            self.exits[code if code >= 0 else 128 - code] += 1

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self.process.pid) is not None:
            os.killpg(pid, number)
