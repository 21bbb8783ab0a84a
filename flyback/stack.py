"""The processes of `flyback up` and `flyback demo`: broker, worker, sink, dashboard; started, watched and stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal, Protocol, Self

from flyback import endpoints, topics
from flyback import settings as all_settings
from flyback.errors import BrokerError, FlybackError
from flyback.local.process import ChildProcess, free_port, listens
from flyback.settings import Settings

BrokerKind = Literal["embedded", "kafka"]

STOP_SECONDS = 6.0  # a worker ends within 5 s of SIGTERM, whatever hangs
READY_SECONDS = 60.0
_FIRST_BACKOFF, _LAST_BACKOFF = 1.0, 30.0
_STEADY_SECONDS = 60.0  # a process that ran this long starts anew with the shortest wait
_TAIL_LINES = 15
# Wrong settings, contradicting bookkeeping, a broken producer: starting again would end the same way.
_HOPELESS = (2, 3, 4)


class Broker(Protocol):
    """A broker of our own, such as `EmbeddedBroker` or `KafkaBroker`."""

    @property
    def bootstrap(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class ProcessEnded(FlybackError):
    """A process ended and is not to be started again; its own message and exit code."""

    def __init__(self, name: str, code: int, said: str, log: Path) -> None:
        super().__init__(f"the {name} ended with exit code {code}: {said} (its log: {log})")
        self.exit_code = code or 1


def own_broker(kind: BrokerKind, folder: Path, port: int) -> Broker:
    """A broker with its files in `folder`, listening on this port of 127.0.0.1 (0: any free one); not started yet."""
    port = port or free_port()
    if kind == "embedded":
        from flyback.local.tansu import EmbeddedBroker

        return EmbeddedBroker(folder, port)
    from flyback.local.kafka import KafkaBroker

    return KafkaBroker(folder, port)


def broker_settings(broker: Broker) -> dict[str, object]:
    """What has to be set otherwise because of the broker."""
    from flyback.local.tansu import EmbeddedBroker

    # It lets nobody join a group before half a session timeout is over; Apache Kafka refuses so short a one.
    return {"session_timeout": timedelta(seconds=2)} if isinstance(broker, EmbeddedBroker) else {}


def port_or_free(preferred: int) -> int:
    """The port itself where nothing listens on it, else any free one."""
    return free_port() if preferred == 0 or listens(preferred) else preferred


class Stack:
    """A worker and a sink as child processes, the dashboard if wanted, and the broker where it is ours.

    As a context manager all of it is stopped on exit: dashboard, worker, sink, broker, in this order, so that each can
    still write what it holds. `logs` takes the children's output, `cwd` is where they run (None: here). `settings`
    holds the addresses that are really used: a port that is taken is replaced by a free one.
    """

    def __init__(
        self,
        settings: Settings,
        logs: Path,
        broker: Broker | None = None,
        cwd: Path | None = None,
        dashboard: bool = False,
    ) -> None:
        changes: dict[str, object] = {
            name: port_or_free(getattr(settings, name))
            for name in ("worker_http_port", "sink_http_port", "dashboard_port")
        }
        if broker is not None:
            # whatever the environment says of security is about another broker
            changes |= {"bootstrap_servers": broker.bootstrap, "security_protocol": "PLAINTEXT"}
            changes |= broker_settings(broker)
        self.settings = settings.model_copy(update=changes)
        self._broker = broker
        environment = _child_environment(self.settings)
        self.worker = Supervised("worker", logs / "worker.log", environment, cwd)
        self.sink = Supervised("sink", logs / "sink.log", environment, cwd)
        self.dashboard = Supervised("dashboard", logs / "dashboard.log", environment, cwd) if dashboard else None

    @property
    def worker_endpoint(self) -> str:
        """`http://host:port` of the worker's /metrics and /healthz."""
        return f"http://{self.settings.http_host}:{self.settings.worker_http_port}"

    @property
    def sink_endpoint(self) -> str:
        """`http://host:port` of the sink's /metrics and /healthz."""
        return f"http://{self.settings.http_host}:{self.settings.sink_http_port}"

    @property
    def dashboard_address(self) -> str:
        """What to open in a browser."""
        return f"http://{endpoints.reachable(self.settings.dashboard_host, self.settings.dashboard_port)}"

    @property
    def _processes(self) -> list[Supervised]:
        """In the order in which they are stopped."""
        return [*([self.dashboard] if self.dashboard else []), self.worker, self.sink]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker, make the topics, start the processes. Does not wait for these.

        Raises BrokerError, and TopicMismatch where the topics of a running Kafka are not fit.
        """
        if self._broker is not None:
            self._broker.start()
        topics.create(self.settings)
        topics.require(self.settings)
        for process in self._processes:
            process.start()

    def wait_ready(self) -> None:
        """Return once all processes say on their endpoints that they are well.

        Raises ProcessEnded with what the one that ended said, BrokerError after 60 seconds.
        """
        deadline = time.monotonic() + READY_SECONDS
        places = [(self.worker, self.worker_endpoint), (self.sink, self.sink_endpoint)]
        places += [(self.dashboard, self.dashboard_address)] if self.dashboard else []
        for process, endpoint in places:
            while not _health(endpoint):
                self.check()
                if time.monotonic() > deadline:
                    raise BrokerError(f"the {process.name} was not ready after {READY_SECONDS:g} s: see {process.log}")
                time.sleep(0.05)

    def status(self) -> tuple[dict[str, object], dict[str, object]]:
        """What worker and sink say of themselves now; {} where one does not answer, or is not well."""
        return _health(self.worker_endpoint), _health(self.sink_endpoint)

    def waiting(self) -> object:
        """What the worker says that it waits for, None where it does not wait."""
        return _health(self.worker_endpoint).get("waiting")

    def check(self) -> None:
        """Raise ProcessEnded if one no longer runs."""
        for process in self._processes:
            process.check()

    def supervise(self, say: Callable[[str], None]) -> None:
        """Start again what ended, after a wait that grows; tell it to `say`. To be called a few times a second.

        Raises ProcessEnded where starting again cannot help.
        """
        for process in self._processes:
            process.revive(say)

    def stop_processes(self) -> None:
        """Stop all but the broker."""
        for process in self._processes:
            process.stop()

    def stop(self) -> None:
        """Stop everything; harmless when nothing runs."""
        self.stop_processes()
        if self._broker is not None:
            self._broker.stop()


class Supervised:
    """`python -m flyback NAME` as a child process, and what became of it."""

    def __init__(self, name: str, log: Path, environment: dict[str, str], cwd: Path | None = None) -> None:
        self.name = name
        self.log = log
        command = [sys.executable, "-m", "flyback", name]
        self._child = ChildProcess(f"the {name}", command, log, env=environment, cwd=cwd)
        self._log_start = 0
        self._started = 0.0
        self._backoff = _FIRST_BACKOFF
        self._start_again_at: float | None = None

    def start(self) -> None:
        # an earlier run's log is kept, but its errors are not ours
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._started = time.monotonic()
        self._child.start()

    def stop(self) -> None:
        self._child.stop(STOP_SECONDS)

    def check(self) -> None:
        code = self._child.exit_code
        if code is not None:
            raise ProcessEnded(self.name, code, self._last_words(), self.log)

    def revive(self, say: Callable[[str], None]) -> None:
        code = self._child.exit_code
        if code is None:
            return
        if code in _HOPELESS:
            self.check()
        now = time.monotonic()
        if self._start_again_at is None:
            if now - self._started > _STEADY_SECONDS:
                self._backoff = _FIRST_BACKOFF
            say(
                f"the {self.name} ended with exit code {code}: {self._last_words()}\n"
                f"it is started again in {self._backoff:g} s (its log: {self.log})"
            )
            self._start_again_at = now + self._backoff
            self._backoff = min(2 * self._backoff, _LAST_BACKOFF)
        elif now >= self._start_again_at:
            self._start_again_at = None
            self.start()

    def _last_words(self) -> str:
        """Its last error message, else the end of its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read()[-65_536:].decode(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        for line in reversed(lines):
            if (message := _error_in(line)) is not None:
                return message
        return "\n".join(["it said", *lines[-_TAIL_LINES:]]) if lines else "it said nothing"


def _error_in(line: str) -> str | None:
    """The message of a log line that tells of an error."""
    if line.startswith("error: "):
        return line.removeprefix("error: ")
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if isinstance(entry, dict) and entry.get("level") in ("error", "critical") and "event" in entry:
        trace = str(entry.get("exception", "")).strip()
        return str(entry["event"]) + (f"\n{trace}" if trace else "")
    return None


def _child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with its settings in place of whatever variables it was started with."""
    ours = {name + suffix for name in all_settings.variables() for suffix in ("", "_FILE")}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, **settings.environment(), "PYTHONUNBUFFERED": "1"}


def _health(endpoint: str) -> dict[str, object]:
    """What the process says that is well; {} where it is not, or not up yet, or died as it answered."""
    found = endpoints.health(endpoint.removeprefix("http://"), seconds=2)
    return found if found.get("ok") else {}


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within, the first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; later ones are ignored.

    So a second Ctrl-C cannot break off an orderly stop. For the main thread.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    except SystemError as error:  # that is how it comes out of a call of Kafka's client
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
