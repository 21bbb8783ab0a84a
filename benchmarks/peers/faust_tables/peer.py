"""The join as a Faust agent over a table in RocksDB.

python -m benchmarks.peers.faust_tables.peer FOLDER      (which holds job.json)

At least once: what Faust calls exactly once stands still for ten seconds at each start.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import faust
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.job import PARTITIONS, Job
from benchmarks.peers.joining import Join

_RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


class _Table:
    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._table.get(key.encode())
        return found

    def set(self, key: str, value: bytes) -> None:
        self._table[key.encode()] = value

    def delete(self, key: str) -> None:
        del self._table[key.encode()]


def create_changelog(bootstrap: str, name: str) -> None:
    """Before Faust does: where its client does not see a topic at once that it has just made, it waits for ever."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config={"cleanup.policy": "compact"})])[name].result()
    while name not in admin.list_topics(timeout=30).topics:
        time.sleep(0.05)


async def run(folder: Path) -> None:
    """Until all events are taken and all that they derive is acknowledged."""
    job = Job.read(folder)
    join, done, sent, taken = Join(job), asyncio.Event(), [], 0
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.5,
        consumer_auto_offset_reset="earliest",
        producer_compression_type="lz4",
        datadir=str(folder / "state"),
        store="rocksdb://",
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
    )
    table = app.Table("events", partitions=PARTITIONS, key_type=bytes, value_type=bytes)
    create_changelog(job.bootstrap, f"{job.group}-{table.name}-changelog")
    raw = app.topic(*(job.topics[record] for record in ("Prediction", "Correction", "Grade")), **_RAW)
    derived = {job.topics[record]: app.topic(job.topics[record], **_RAW) for record in ("Example", "GradedExample")}

    @app.agent(raw)
    async def joining(stream: Any) -> None:
        nonlocal taken
        state = _Table(table)
        async for event in stream.events():
            message = event.message
            place = message.topic, message.partition, message.offset, round(message.timestamp * 1000)
            for topic, key, value in join.take(state, *place, event.value):
                sent.append(await derived[topic].send(key=key, value=value))
            taken += 1
            if taken == job.events:
                done.set()

    async with app:
        await done.wait()
        await asyncio.gather(*sent)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
