"""Three brokers on this machine that keep three copies of everything, any one of which may be lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka.admin import AdminClient

from flyback.local.kafka import KafkaBroker, Member, new_cluster_id
from flyback.local.process import Startable, free_port
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

NODES = (1, 2, 3)
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # a replica that fell behind in a burst on a small machine is not dropped at once
    "replica.lag.time.max.ms": "10000",
}


class Cluster(Startable):
    """Apache Kafka in KRaft mode, three nodes that are broker and controller each, in `folder`."""

    def __init__(self, folder: Path) -> None:
        controllers = {node: free_port() for node in NODES}
        cluster_id = new_cluster_id()
        self.brokers = {
            node: KafkaBroker(
                folder / f"broker-{node}",
                properties=REPLICATED,
                member=Member(node, cluster_id, controllers),
                heap_mb=256,
            )
            for node in NODES
        }

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def start(self) -> None:
        """Start all of them and return when they serve clients."""
        try:
            self._each(KafkaBroker.start)
        except BaseException:
            self._each(KafkaBroker.kill)
            raise

    def stop(self) -> None:
        """End them by SIGKILL: in an orderly way the last two would wait for a majority that is gone."""
        self._each(KafkaBroker.kill)

    def leader(self, topic: str, partition: int) -> KafkaBroker:
        """The broker that leads this partition now."""
        found: list[KafkaBroker] = []

        def known() -> bool:
            leader = self._admin().list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
            found[:] = [self.brokers[leader]] if leader in self.brokers else []
            return bool(found)

        eventually(known, f"{topic}/{partition} has a leader", SECONDS)
        return found[0]

    def until_in_sync(self) -> None:
        """Return once every replica of every partition is in sync: then any one broker may be lost."""

        def complete() -> bool:
            topics = self._admin().list_topics(timeout=10).topics.values()
            return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())

        eventually(complete, "all replicas are in sync", SECONDS)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _each(self, do: Callable[[KafkaBroker], None]) -> None:
        with ThreadPoolExecutor(len(NODES)) as threads:
            list(threads.map(do, self.brokers.values()))
