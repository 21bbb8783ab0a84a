"""Where a round takes place: a broker, or what it needs instead, and where its files are.

A place is a function that gives a `Place` for as long as its `with` block lasts; `PLACES` names them. Those in
`SHARED` hold rounds of several faults, one after another or at the same time; the others are made for each round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyback.local.kafka import KafkaBroker
from tests.chaos.cluster import Cluster


@dataclass(frozen=True)
class Place:
    """Broker and surroundings of a site."""

    bootstrap: str
    """For everybody, the verdict included, that is not a worker, a sink or a service of the load."""
    broker: Any = None
    """A `KafkaBroker`, or a cluster of them; what a fault of this kind attacks."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of everybody by field name, such as `{"replication_factor": 3}`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of workers, sinks and load only, such as another `KAFKA_BOOTSTRAP_SERVERS`."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What else a fault wants to reach, such as a proxy."""


@contextmanager
def plain(folder: Path) -> Iterator[Place]:
    """One broker, that no fault touches."""
    with KafkaBroker(folder / "kafka") as broker:
        yield Place(broker.bootstrap, broker)


@contextmanager
def three_brokers(folder: Path) -> Iterator[Place]:
    """Three brokers with three copies of everything, two of which are written before anything is acknowledged."""
    with Cluster(folder) as cluster:
        yield Place(cluster.bootstrap, cluster, settings={"replication_factor": len(cluster.brokers)})


Maker = Callable[[Path], AbstractContextManager[Place]]

PLACES: dict[str, Maker] = {
    "plain": plain,
    "own broker": plain,
    "cluster": three_brokers,
}
SHARED = {"plain"}
