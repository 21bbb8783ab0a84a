"""A worker process with an engine that behaves as its argument says, for tests of everything around the engine."""

from __future__ import annotations

import sys
import threading
from typing import Any

from flyback import settings
from flyback.errors import RefusedToStart
from flyback.streams import worker


class StubEngine:
    """`idle` joins nothing until stopped; `refuses` and `breaks` raise; `hangs` does not care about `stop`,
    and `hangs in a step` does not get on either; `was frozen` seems not to, once."""

    def __init__(self, behaviour: str) -> None:
        self._behaviour = behaviour
        self._stopped = threading.Event()
        self._looks = 0

    def run(self) -> None:
        if self._behaviour == "refuses":
            raise RefusedToStart("the state belongs to another cluster: give FLYBACK_STATE_DIR another folder")
        if self._behaviour == "breaks":
            raise ZeroDivisionError("a bug")
        self._stopped.wait()

    def stop(self) -> None:
        if "hangs" not in self._behaviour:
            self._stopped.set()

    def hangs(self) -> bool:
        self._looks += 1
        return self._behaviour == "hangs in a step" or (self._behaviour == "was frozen" and self._looks == 1)

    def status(self) -> dict[str, Any]:
        return {
            "ok": True,
            "worker_id": "worker-stub",
            "assigned": [0],
            "restoring": [],
            "totals": {"events": 7, "looks": self._looks},
        }


if __name__ == "__main__":
    sys.exit(worker.run(settings.load(), lambda *_: StubEngine(sys.argv[1])))
