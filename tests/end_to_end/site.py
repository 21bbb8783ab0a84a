"""Workers and sinks as processes of the command line, over one Kafka, in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from flyback.errors import WorkerFenced
from flyback.landing import wait_until_landed
from flyback.local.process import ChildProcess, free_port
from flyback.settings import Settings
from tests.waiting import eventually

SECONDS = 60.0


class Service:
    """One worker, sink or dashboard: started, killed and started again under the same folders."""

    def __init__(self, name: str, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        names = ("FLYBACK_WORKER_HTTP_PORT", "FLYBACK_SINK_HTTP_PORT", "FLYBACK_DASHBOARD_PORT")
        ports = dict.fromkeys(names, str(self.port))
        self.log = folder / f"{name}.log"
        self.process = ChildProcess(
            name, [sys.executable, "-m", "flyback", command], self.log, env={**environment, **ports}, cwd=folder
        )

    def start(self) -> None:
        self.process.start()

    def kill(self) -> None:
        """By SIGKILL: nothing is closed, committed or said."""
        assert self.process.kill() == 128 + 9

    def stop(self) -> None:
        """By SIGTERM, as supervisors do."""
        assert self.process.stop(15) == 0, self.process.log_tail()

    def wait_ready(self) -> None:
        def well() -> bool:
            self.check()
            return bool(self.health().get("ok"))

        eventually(well, f"the {self.name} is well", SECONDS)

    def check(self) -> None:
        """It runs. Who was fenced while it was slow is started again, as a supervisor would."""
        if self.process.exit_code == WorkerFenced.exit_code:
            self.start()
        assert self.process.running, f"{self.name} ended with {self.process.exit_code}:\n{self.process.log_tail()}"

    def health(self) -> dict[str, Any]:
        """What /healthz says, {} where nobody answers."""
        found: dict[str, Any] = json.loads(self.get("healthz") or "{}")
        return found

    def get(self, path: str) -> str:
        """An answer of its endpoint, "" where nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except HTTPError as refused:
            return refused.read().decode()
        except (OSError, HTTPException):  # also an answer that was cut short
            return ""

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


class Site:
    """The services of one lake. `settings` are everybody's; changes are given as environment variables."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.services: dict[str, Service] = {}

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a process; an empty variable counts as not set."""
        return {**os.environ, **self.settings.environment(), **changes}

    def start_worker(self, name: str = "worker", **environment: str) -> Service:
        state = {"FLYBACK_STATE_DIR": str(self.folder / f"state-{name}")}
        return self._start(name, "worker", self.environment(**state, **environment))

    def start_sink(self, name: str = "sink", **environment: str) -> Service:
        return self._start(name, "sink", self.environment(**environment))

    def start_dashboard(self) -> Service:
        return self._start("dashboard", "dashboard", self.environment())

    def _start(self, name: str, command: str, environment: Mapping[str, str]) -> Service:
        service = Service(name, command, self.folder, environment)
        service.start()
        self.services[name] = service
        return service

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself, with endpoints on any free port."""
        ports = {"FLYBACK_WORKER_HTTP_PORT": "0", "FLYBACK_SINK_HTTP_PORT": "0"}
        return subprocess.run(
            [sys.executable, "-m", "flyback", *arguments],
            cwd=self.folder,
            env=self.environment(**{**ports, **environment}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def until_landed(self) -> None:
        """All that was sent is joined, and what came of it is in the lake."""
        wait_until_landed(self.settings, lambda *_: None, self.check, SECONDS)

    def check(self) -> None:
        for service in self.services.values():
            service.check()

    def close(self) -> None:
        for service in self.services.values():
            service.process.kill()
