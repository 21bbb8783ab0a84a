"""Brokers that end: the only one, killed or in an orderly way, and the leader among three.

Workers, sinks and the services of the load are not touched: they have to go on by themselves.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from flyback.streams.topology import Topology
from tests.chaos.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.site import Site


def _kill(site: Site, _: random.Random) -> None:
    site.broker.kill()
    site.broker.start()
    _until_all_go_on(site)


def _restart(site: Site, _: random.Random) -> None:
    site.broker.restart()
    _until_all_go_on(site)


def _kill_leader(site: Site, rng: random.Random) -> None:
    topic = rng.choice(Topology(site.settings).raw)
    leader = site.broker.leader(topic, rng.randrange(site.settings.partitions))
    leader.kill()
    _until_all_go_on(site)  # without it
    leader.start()
    site.broker.until_in_sync()  # only then another one may be lost
    _until_all_go_on(site)


def _until_all_go_on(site: Site) -> None:
    site.until_progress()
    site.until_progress("sink")


FAULTS: tuple[Fault, ...] = (
    Fault("the only broker killed (SIGKILL)", _kill, (2, 20), kind="own broker", mixed=False),
    Fault("the only broker restarted", _restart, (1, 20), kind="own broker", mixed=False),
    Fault("leader of a raw partition killed, three brokers", _kill_leader, (1, 20), kind="cluster", mixed=False),
)
