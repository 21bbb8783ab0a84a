"""Whether the sink gets on: its consumer may give nothing any more, without an error, though Kafka has more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from flyback import history
from flyback.errors import BrokerError
from flyback.settings import Settings
from flyback.sinks.message import Place

_INTERVAL = 15.0
_TIMEOUT = 5.0  # seconds, of one question to the broker


class Standstill:
    """Compares where the sink is with what another client sees, now and then.

    A client of librdkafka 2.16 that was told of no broker at all, as where the only one restarts, may never find one
    again (issue 5301).
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._checked = clock()
        self._before: dict[Place, tuple[int, int]] = {}
        self._ran_dry = False

    def check(self, positions: Callable[[], Mapping[Place, int]], ran_dry: bool) -> None:
        """`positions` gives the offset that is read next, by place; `ran_dry` says that the last read gave nothing.

        Raises BrokerError where one has not moved since the last look though there was a message already. To be called
        between all reads. While these always give something, what is missing may come after that.
        """
        self._ran_dry = self._ran_dry or ran_dry
        passed = self._clock() - self._checked
        if passed < _INTERVAL or not self._ran_dry:
            return
        self._checked, self._ran_dry = self._clock(), False
        # where the caller waited for something else, nothing was read meanwhile
        before, self._before = self._before if passed < 2 * _INTERVAL else {}, {}
        with suppress(BrokerError):  # where Kafka is away, nobody gets on
            at_present = positions()
            ends = history.bounds(self._settings, sorted({topic for topic, _ in at_present}), _TIMEOUT)
            self._before = {place: (at, ends[place][1]) for place, at in at_present.items()}
        still = {place: at for place, (at, _) in self._before.items() if before.get(place, (-1, 0))[0] == at}
        missed = {place: at for place, at in still.items() if at < before[place][1]}
        if missed and self._anything_at(missed):
            names = ", ".join(
                f"{topic}/{partition} at offset {at}" for (topic, partition), at in sorted(missed.items())
            )
            raise BrokerError(f"the consumer stands still, though there is more: {names}. Start this sink again")

    def _anything_at(self, starts: Mapping[Place, int]) -> bool:
        """Whether a committed message follows: the end of a log may be a transaction's marker."""
        with suppress(BrokerError):
            return next(history.read_from(self._settings, starts, 1, _TIMEOUT), None) is not None
        return False
