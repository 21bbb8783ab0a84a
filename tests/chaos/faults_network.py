"""Connections to the broker that stall, break half-way through a message, or are slow: a proxy is before it."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos.fault import Fault, in_turn
from tests.chaos.patience import SECONDS
from tests.chaos.proxy import Proxy
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.site import Site

BREAKS = 10
"""Connections that one injection breaks at least."""
LARGEST_BREAK = 200_000
SLOW_SECONDS = 6.0


def stall(site: Site, rng: random.Random) -> None:
    """Nothing passes for longer than session and transaction time-out together, and then everything at once."""
    limits = site.settings.session_timeout + site.settings.transaction_timeout
    proxy = _proxy(site)
    proxy.stall()
    time.sleep(limits.total_seconds() + rng.uniform(1, 4))
    proxy.pass_on()
    _until_well(site)


def stall_briefly(site: Site, rng: random.Random) -> None:
    """Nothing passes for a while that sessions and transactions outlive, or just do not."""
    proxy = _proxy(site)
    proxy.stall()
    time.sleep(site.settings.session_timeout.total_seconds() * rng.uniform(0.2, 1.2))
    proxy.pass_on()
    _until_well(site)


def break_half_way(site: Site, rng: random.Random) -> None:
    """Connections end after some bytes, again and again, most often in the middle of a request or an answer."""
    proxy = _proxy(site)
    for broken in range(proxy.broken, proxy.broken + BREAKS):
        proxy.break_after(rng.randint(1, LARGEST_BREAK))
        eventually(partial(_more_than, proxy, broken), "a connection breaks", SECONDS)
    proxy.pass_on()
    _until_well(site)


def slow_down(site: Site, rng: random.Random) -> None:
    """Little bandwidth, and every piece late."""
    proxy = _proxy(site)
    proxy.slow_down(bytes_per_second=rng.uniform(50_000, 500_000), delay=rng.uniform(0.005, 0.05))
    time.sleep(SLOW_SECONDS)
    proxy.pass_on()
    _until_well(site)


def _proxy(site: Site) -> Proxy:
    proxy: Proxy = site.place.parts["proxy"]
    return proxy


def _more_than(proxy: Proxy, broken: int) -> bool:
    return proxy.broken > broken


def _until_well(site: Site) -> None:
    site.until_progress("worker")
    site.until_progress("sink")


FAULTS: tuple[Fault, ...] = (
    Fault("connections slow, broken half-way, stalled", in_turn(slow_down, break_half_way, stall), (3, 0), "proxied"),
    Fault("connections stall past session and transaction time-out", stall, (0, 20), "proxied"),
    Fault("connections stall for about a session time-out", stall_briefly, (0, 20), "proxied"),
    Fault("connections broken half-way, ten at a time", break_half_way, (0, 20), "proxied"),
    Fault("connections slow", slow_down, (0, 20), "proxied"),
)
