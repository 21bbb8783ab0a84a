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
from flyback.local.process import free_port
from flyback.local.registry import SchemaRegistry
from tests.chaos.cluster import Cluster
from tests.chaos.disks import small_disk
from tests.chaos.proxy import KafkaBehind, Proxy

DISK_MEGABYTES = 256


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


@contextmanager
def proxied(folder: Path) -> Iterator[Place]:
    """A broker that workers, sinks and the load reach through a `Proxy` only; the others ask it directly."""
    broker = KafkaBehind(Proxy(free_port()), folder / "kafka")
    with broker, broker.proxy:
        through = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{broker.proxy.port}"}
        yield Place(broker.bootstrap, broker, environment=through, parts={"proxy": broker.proxy})


@contextmanager
def small_disks(folder: Path) -> Iterator[Place]:
    """One broker, and a disk each for the states and for the lake. Raises CannotMount."""
    with (
        small_disk(folder / "state-disk", DISK_MEGABYTES) as states,
        small_disk(folder / "lake-disk", DISK_MEGABYTES) as lake,
        KafkaBroker(folder / "kafka") as broker,
    ):
        yield Place(
            broker.bootstrap,
            broker,
            settings={"lake": str(lake.path / "lake")},
            environment={"FLYBACK_STATE_DIR": str(states.path)},
            parts={"states": states, "lake": lake},
        )


@contextmanager
def with_registry(folder: Path) -> Iterator[Place]:
    """One broker and a schema registry, which workers, sinks and the load reach through a `Proxy`."""
    with KafkaBroker(folder / "kafka") as broker, SchemaRegistry(folder) as registry, Proxy(registry.port) as proxy:
        through = registry.url.replace(str(registry.port), str(proxy.port))
        yield Place(
            broker.bootstrap,
            broker,
            settings={"registry_url": registry.url},
            environment={"SCHEMA_REGISTRY_URL": through},
            parts={"proxy": proxy},
        )


Maker = Callable[[Path], AbstractContextManager[Place]]

PLACES: dict[str, Maker] = {
    "plain": plain,
    "own broker": plain,
    "cluster": three_brokers,
    "proxied": proxied,
    "small disks": small_disks,
    "registry": with_registry,
}
SHARED = {"plain"}
