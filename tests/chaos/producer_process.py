"""One service of the load: sends its workload through the SDK, and the poison by a producer of its own.

    python -m tests.chaos.producer_process NAME FOLDER SEED

It does what `FOLDER/load.json` says (`Orders`), and writes what Kafka acknowledged to `FOLDER/NAME.json` (`Position`).
Killed and started again it goes on after the last position, so some of its events are sent twice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flyback import Client
from flyback.errors import BufferFull, RegistryUnavailable
from flyback.schemas.catalog import open_catalog
from flyback.settings import load
from flyback.streams.topology import Topology
from tests.chaos.workload import WITHOUT_COPIES, Item, Mix, chunk
from tests.streams.on_kafka import OnKafka
from tests.streams.records import POISON, Raw, registered

TICK = 0.05
_CHECKPOINT = 0.5
_SHORT_WINDOW = timedelta(minutes=1)
EXPECTED = "chaos-reason"
"""Header of a poison message: why it must be refused."""


@dataclass(frozen=True)
class Orders:
    """What all services of a load are to do; each order has another number. `rate` is in events a second, of each."""

    number: int = 0
    run: bool = True
    end: bool = False
    rate: float = 200.0


@dataclass(frozen=True)
class Position:
    """All items before this one are acknowledged, `sent` in number.

    `quiet`: the number of the order after which nothing is under way any more, -1 where something is.
    """

    chunk: int = 0
    item: int = 0
    sent: int = 0
    quiet: int = -1


def write(path: Path, content: Orders | Position) -> None:
    """Whole or not at all."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(asdict(content)), encoding="utf-8")
    aside.replace(path)


def orders(folder: Path) -> Orders:
    return Orders(**json.loads((folder / "load.json").read_text(encoding="utf-8")))


def position(folder: Path, name: str) -> Position:
    """How far a service is; at the start where it has written nothing yet."""
    path = folder / f"{name}.json"
    return Position(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Position()


def mix(join_window: timedelta) -> Mix:
    return WITHOUT_COPIES if join_window < _SHORT_WINDOW else Mix()


class Service:
    """Sends until it is told to end."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self._name = name
        self._folder = folder
        self._seed = seed
        self._settings = load()
        self._client = Client(self._settings)
        self._poison = OnKafka(self._settings)
        self._topology = Topology(self._settings)
        self._catalog = open_catalog(self._settings)
        self._at = position(folder, name)

    def run(self) -> None:
        items = self._items()
        allowed, checked, now = 0.0, time.monotonic(), time.monotonic()
        while not (ordered := orders(self._folder)).end:
            before, now = now, time.monotonic()
            allowed = min(allowed + ordered.rate * (now - before), ordered.rate) if ordered.run else 0.0
            while allowed >= 1:
                allowed -= 1
                self._at, item = next(items)
                self._send(item)
            if not ordered.run or now - checked >= _CHECKPOINT:
                self._checkpoint(quiet=-1 if ordered.run else ordered.number)
                checked = now
            time.sleep(TICK)
        self._checkpoint(quiet=ordered.number)

    def _items(self) -> Iterator[tuple[Position, Item]]:
        """Every item from the position on, with the position after it."""
        at = self._at
        number, skipped, sent = at.chunk, at.item, at.sent
        while True:
            last = 0
            for i, item in enumerate(chunk(self._seed, self._name, number, mix(self._settings.join_window))):
                last = i + 1
                if last > skipped:
                    sent += 1
                    yield Position(number, last, sent), item
            number, skipped = number + 1, 0

    def _send(self, item: Item) -> None:
        if item.call == "poison":
            reason, build = POISON[item.arguments["kind"]]
            message = self._registered(build(item.arguments["task"]))
            self._poison.start_sending(_with_header(message, reason))
            return
        when = datetime.now(UTC) - timedelta(seconds=item.age)
        while True:
            try:
                getattr(self._client, item.call)(**item.arguments, occurred_at=when)
                return
            except BufferFull:  # the broker is away
                time.sleep(TICK)

    def _registered(self, message: Raw) -> Raw:
        while True:
            try:
                return registered(message, self._topology, self._catalog)
            except RegistryUnavailable:
                time.sleep(TICK)

    def _checkpoint(self, quiet: int) -> None:
        at = self._at
        while self._client.flush(5.0):
            if orders(self._folder).end:
                return
        self._poison.flush()
        if failed := self._client.stats().failed:
            sys.exit(f"{failed} events were not delivered")
        write(self._folder / f"{self._name}.json", Position(at.chunk, at.item, at.sent, quiet))


def _with_header(message: Raw, reason: str) -> Raw:
    return replace(message, headers=[*(message.headers or ()), (EXPECTED, reason.encode())])


if __name__ == "__main__":
    Service(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])).run()
