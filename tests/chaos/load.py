"""The load of a site: services that send all the time, in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flyback.local.process import ChildProcess
from flyback.settings import Settings
from tests.chaos.patience import SECONDS
from tests.chaos.producer_process import Orders, Position, mix, position, write
from tests.chaos.workload import chunk
from tests.waiting import eventually


class Load:
    """Services `load-1`, `load-2` ...; nothing is sent before `start`."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        environment: Mapping[str, str],
        seed: int,
        rate: float,
        services: int = 2,
    ) -> None:
        """`rate`: events a second of all services together."""
        self._settings = settings
        self._folder = folder
        self._seed = seed
        self._orders = Orders(rate=rate / services)
        self.kills = 0
        """How often a service was killed."""
        self.services = {
            name: ChildProcess(
                name,
                [sys.executable, "-m", "tests.chaos.producer_process", name, str(folder), str(seed)],
                folder / f"{name}.log",
                env=environment,
                cwd=folder,
            )
            for name in (f"load-{i + 1}" for i in range(services))
        }

    def start(self) -> None:
        """Start to send, without end."""
        self._order(self._orders)
        for service in self.services.values():
            service.start()

    def pause(self) -> None:
        """Send nothing more; returns once Kafka has acknowledged everything."""
        self._order(replace(self._orders, run=False))
        self.until_quiet()

    def resume(self) -> None:
        """Go on sending."""
        self._order(replace(self._orders, run=True))

    def kill(self, name: str) -> None:
        """One service, by SIGKILL, and start it again: it sends again what it does not know to be acknowledged."""
        self.services[name].kill()
        self.kills += 1
        self.services[name].start()

    def stop(self) -> None:
        """Pause, and end the services."""
        self.pause()
        self._order(replace(self._orders, end=True))
        for service in self.services.values():
            assert service.wait(30) == 0, f"{service.name} failed:\n{service.log_tail()}"

    def until_quiet(self, seconds: float = SECONDS) -> None:
        """Return once the load, told to pause, has nothing under way any more."""
        last = self._orders.number
        eventually(lambda: all(at.quiet == last for at in self._positions().values()), "the load is quiet", seconds)

    def sent(self) -> int:
        """How many items were acknowledged."""
        return sum(at.sent for at in self._positions().values())

    def missing(self, found: Mapping[str, set[int]]) -> list[str]:
        """Acknowledged events that are not among those `found` in the raw topics: numbers by service."""
        window_mix = mix(self._settings.join_window)
        lost = []
        for name, at in self._positions().items():
            for number in range(at.chunk + 1):
                for i, item in enumerate(chunk(self._seed, name, number, window_mix)):
                    if number == at.chunk and i >= at.item:
                        break
                    if item.call != "poison" and item.number not in found.get(name, ()):
                        lost.append(f"{name}/{item.number} ({item.call})")
        return lost

    def close(self) -> None:
        """End the services, whatever they do."""
        for service in self.services.values():
            service.kill()

    def _positions(self) -> dict[str, Position]:
        for service in self.services.values():
            if service.exit_code not in (None, 0, 137):
                raise AssertionError(f"{service.name} failed:\n{service.log_tail()}")
        return {name: position(self._folder, name) for name in self.services}

    def _order(self, orders: Orders) -> None:
        self._orders = replace(orders, number=self._orders.number + 1)
        write(self._folder / "load.json", self._orders)
