"""The dashboard as people open it, over counts and a lake that a test fills; Kafka's part is what the test says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from flyback.dashboards.access import Access
from flyback.dashboards.app import build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.rate_store import RateStore
from flyback.dashboards.server import Server, address, listen
from flyback.sinks.columns import from_records
from flyback.streams.rates import MILLIONTHS, Counts
from tests.sinks.lakes import HandMade

MINUTE = timedelta(minutes=1)


def counts(predictions: int, reviewed: int, failures: int, weight: int = 2) -> Counts:
    """Of predictions that were each chosen for review with probability 1 / weight."""
    over, failed = (number * weight * MILLIONTHS for number in (reviewed, failures))
    return Counts(predictions, reviewed, failures, reviewed, over, failed, over * weight, failed * weight)


class Site:
    """One dashboard on a port of its own, which it keeps when it is stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.store = RateStore()
        self.lake = HandMade(folder / "lake")
        self.health: dict[str, Any] = {"verdict": "well", "problems": [], "lags": [], "restoring": []}
        self.health["last_commit"] = {"worker": self.now.isoformat(), "sink": None}
        self._following: Following | None = None
        self._board = Board(self.store, LakeReader(self.lake.path), self._follow, lambda: self.health)
        self._port = 0
        self.url = ""

    def count(
        self, back: int, labels: Mapping[str, str], counted: Counts, kind: str = "MODEL", partition: int = 0
    ) -> None:
        """Put these counts into the minute so many minutes ago; `labels`: segment, actor and version, or some."""
        given = {"segment": "default", "actor": "vader", "version": "", "actor_kind": kind, **labels}
        minute = int((self.now - back * MINUTE).timestamp()) * 1_000_000
        record = {"partition": partition, "minute": minute, **given, **counted._asdict(), "derive_version": 1}
        self.store.put(from_records("FailureRate", [record]))

    def follow(self, following: Following | None) -> None:
        """What the reader of Kafka says of itself; None: all is read."""
        self._following = following

    def _follow(self) -> Following:
        return self._following or Following("live", 10, 10, at=time.monotonic())

    def start(self) -> None:
        socket = listen("127.0.0.1", self._port)
        self._port = socket.getsockname()[1]
        self.url = address(socket)
        self._server = Server(build(self._board), Access())
        self._thread = threading.Thread(target=self._serve, args=(socket,), daemon=True)
        self._thread.start()

    def _serve(self, socket: Any) -> None:
        with socket:
            asyncio.run(self._server.serve([socket]))

    def stop(self) -> None:
        """Nobody answers any more."""
        self._server.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.store.close()
