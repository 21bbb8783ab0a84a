"""Whether everything that was sent has reached the lake: decided by offsets, never by waiting a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flyback import history
from flyback.errors import FlybackError
from flyback.history import Place
from flyback.settings import Settings
from flyback.sinks.tables import landed
from flyback.streams.topology import Kind, Topology

STALL_SECONDS = 60.0
_POLL_SECONDS = 0.25

Progress = Callable[[str, int, int], None]
"""Called with what is waited for ("joined", "landed"), how many messages are, and how many must be."""


class Stalled(FlybackError):
    """A worker or a sink does not get on."""


def wait_until_landed(
    settings: Settings, progress: Progress, check: Callable[[], None], stall_seconds: float = STALL_SECONDS
) -> dict[Place, int]:
    """Return once all that is in the raw topics now is joined, and all of that, and what it derived, is in the lake.

    In this order: the raw topics' ends, which it gives at last; the engine's group has committed them; the ends of
    what the engine wrote; the lake's own offsets have reached all of these. `check` is called while waiting, to raise
    where a process has ended. Raises Stalled when nothing moves for `stall_seconds`.
    """
    topology = Topology(settings)
    raw = history.next_offsets(settings, topology.raw)

    def committed() -> Mapping[Place, int]:
        return history.committed(settings, settings.group, raw)

    advice = f"is a worker of group {settings.group} running? See its log"
    _wait("joined", raw, committed, progress, check, stall_seconds, advice)

    written = topology.of(Kind.DERIVED) + topology.of(Kind.COUNTS) + topology.of(Kind.DEAD_LETTERS)
    everything = raw | history.next_offsets(settings, written)
    advice = f"is a sink writing to {settings.lake}? See its log"
    _wait("landed", everything, lambda: landed(settings.lake), progress, check, stall_seconds, advice)
    return raw


def _wait(
    what: str,
    wanted: Mapping[Place, int],
    reached: Callable[[], Mapping[Place, int]],
    progress: Progress,
    check: Callable[[], None],
    stall_seconds: float,
    advice: str,
) -> None:
    total = sum(wanted.values())
    done, moved_at = -1, time.monotonic()
    while done < total:
        found = reached()
        now_done = sum(min(offset, found.get(place, 0)) for place, offset in wanted.items())
        if now_done != done:
            done, moved_at = now_done, time.monotonic()
        progress(what, done, total)
        check()
        if done < total:
            if time.monotonic() - moved_at > stall_seconds:
                raise Stalled(f"{done} of {total} messages are {what}, and none more for {stall_seconds:g} s: {advice}")
            time.sleep(_POLL_SECONDS)
