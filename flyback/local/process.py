"""A child process that is ready when we say so, writes to a log file, and never outlives us."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flyback.errors import BrokerError

GUARD = Path(__file__).with_name("guard.py")
ORPHAN_GRACE_SECONDS = 5.0
KILL_SECONDS = 5.0
PORTS = range(20_000, 32_768)

_given: deque[int] = deque(maxlen=500)
_started: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


class Startable(ABC):
    """What runs from `start` to `stop`: as a context manager it is started on entry and stopped on exit."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> object: ...

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ChildProcess(Startable):
    """One command, run in a session of its own (the terminal's Ctrl-C does not reach it) under `guard.py`.

    `name` is used in messages, `log` takes stdout and stderr (appended), `advice` ends the message of a
    failed start. The process ends with us, also when we are killed with SIGKILL, and whichever thread started
    it. As a context manager it is started on entry and stopped on exit.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        advice: str = "",
    ) -> None:
        self.name = name
        self.command = [os.fspath(part) for part in command]
        self.log = log
        self.advice = advice
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the guard, which is also the id of the process group; None when not running."""
        return self._guard.pid if self._guard is not None and self.running else None

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, 128 + N after signal N; None while it runs or before it was started."""
        return None if self._guard is None else self._guard.poll()

    def start(self) -> None:
        """Start the command and return at once. Raises `BrokerError` if it runs already."""
        if self.running:
            raise BrokerError(f"{self.name} is already running: stop it before starting it again")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, "-I", "-S", os.fspath(GUARD), str(ORPHAN_GRACE_SECONDS)]
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [*guard, *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        _started.add(self)

    def wait_ready(self, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Return once `ready()` is true.

        Raises `BrokerError` with the end of the log when the process ends first, or after `timeout` seconds;
        then the process is killed. Whatever `ready` raises kills it as well.
        """
        deadline = time.monotonic() + timeout
        try:
            while self.running:
                # Running still: a child whose port was taken ends while what has the port answers for it.
                if ready() and self.running:
                    return
                if time.monotonic() > deadline:
                    raise BrokerError(self._story(f"was not ready after {timeout:g} s"))
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise
        raise BrokerError(self._story(f"ended with exit code {self.exit_code} before it was ready"))

    def stop(self, timeout: float = 10.0) -> int | None:
        """SIGTERM, then SIGKILL after `timeout` seconds. Gives the exit code, None if never started."""
        if self._guard is None:
            return None
        if self.running:
            self._guard.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._ended(self._guard.wait(timeout))
        return self.kill()

    def kill(self) -> int | None:
        """SIGKILL the command and wait for its end. Gives the exit code, None if never started."""
        if self._guard is None:
            return None
        if self.running:
            self._guard.send_signal(signal.SIGUSR1)
            try:
                self._guard.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._guard.pid, signal.SIGKILL)
        return self._ended(self._guard.wait())

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it ends by itself. Raises `BrokerError` after `timeout` seconds."""
        if self._guard is None:
            raise BrokerError(f"{self.name} was never started")
        try:
            return self._ended(self._guard.wait(timeout))
        except subprocess.TimeoutExpired:
            raise BrokerError(f"{self.name} still runs after {timeout:g} s: see {self.log}") from None

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log, at most 16 KiB."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 16_384))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _ended(self, code: int) -> int:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        _started.discard(self)
        return code

    def _story(self, what: str) -> str:
        tail = self.log_tail()
        log = f"the end of {self.log}:\n{tail}" if tail else f"its log {self.log} is empty"
        return "\n".join(part for part in (f"{self.name} {what}; {log}", self.advice) if part)


class Server(Startable):
    """A server of our own on 127.0.0.1, in one child process, with its files in `folder`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self._process: ChildProcess | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        """Process id of the guard that the server runs under; None when not running."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        # There is nothing to save, and the embedded broker would wait for its clients to hang up.
        if self._process is not None:
            self._process.kill()


def running() -> list[ChildProcess]:
    """All children that this process has started and not yet stopped."""
    return [child for child in list(_started) if child.running]


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and none of the last 500 that were given: those may be in use soon.

    Taken from below the range of ports that systems give to outgoing connections: a client that keeps
    knocking at a port inside that range can, once the broker is down, be given this very port and connect to
    itself.
    """
    for port in random.sample(PORTS, 1000):
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.append(port)
            return port
    raise BrokerError(
        f"no free port on 127.0.0.1 between {PORTS[0]} and {PORTS[-1]}: stop some servers, or give a port"
    )


def refuse_taken_port(port: int) -> None:
    """Raise `BrokerError` if something listens there: it would answer for what we are about to start."""
    if listens(port):
        raise BrokerError(f"port {port} of 127.0.0.1 is taken: stop what listens there, or give another port")


def listens(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
