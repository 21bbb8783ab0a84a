"""What can be done to a site while it works."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.site import Site

Inject = Callable[["Site", random.Random], None]


@dataclass(frozen=True)
class Fault:
    """One row of the table. `tests/chaos/faults_*.py` export them as `FAULTS`."""

    name: str
    """Such as "worker killed (SIGKILL), any moment"."""
    inject: Inject
    """Does it once and undoes it; what was killed is started again by the site's supervisor. The load goes on."""
    times: tuple[int, int]
    """How often: in `make chaos`, in `make soak`; 0: not there."""
    kind: str = "plain"
    """The place it needs, one of `places.PLACES`."""
    workers: int = 2
    sinks: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    """More settings for the site's processes, such as `{"FLYBACK_JOIN_WINDOW": "2s"}`."""
    mixed: bool = True
    """Whether it may be part of the mixed round: on a plain place with no settings of its own, without a refusal."""
    at_rest: Callable[[Site], None] | None = None
    """What is done when the load has ended and everything has landed, before the verdict."""
    reconciled: bool = False
    """Whether pairs further apart than the join window must be there too."""


def in_turn(*injections: Inject) -> Inject:
    """One after the other at each call, for a row of `make chaos` that stands for several of `make soak`."""
    turn = cycle(injections)

    def inject(site: Site, rng: random.Random) -> None:
        next(turn)(site, rng)

    return inject
