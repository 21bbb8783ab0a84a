"""What brings full raw topics into files, as a process: the sink, or as little as one could write with pyarrow.

python -m benchmarks.sink_process sink FOLDER       (which holds job.json)
python -m benchmarks.sink_process plain FOLDER
python -m benchmarks.sink_process write FOLDER      (which holds decoded/, see `decode_all`)

What it took without the start goes to found.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.job import PARTITIONS, Job
from flyback import endpoints
from flyback.local.process import free_port
from flyback.streams.topology import Topology

if TYPE_CHECKING:  # loaded by the contenders that need it, not by the one that only starts the sink
    import pyarrow as pa

RAW = ("Prediction", "Correction", "Grade")
_BATCH = 25_000  # rows; about what the sink commits at once
_POLL_SECONDS = 0.25  # asking costs CPU time too, on both sides
_WIRE_HEADER = 5


def sink(job: Job, folder: Path) -> dict[str, float]:
    """`flyback sink` with the default settings, from its start until everything is committed.

    Rows a second are those between a tenth and nine tenths of them: neither the start counts nor the last commit, for
    which a sink waits.
    """
    settings = job.settings(folder).model_copy(update={"lake": str(folder / "lake"), "sink_http_port": free_port()})
    environment = {**os.environ, **settings.environment()}
    command = [sys.executable, "-m", "flyback", "sink"]
    topics = Topology(settings).raw
    seen: list[tuple[int, float]] = []
    with subprocess.Popen(command, env=environment, cwd=folder) as running:
        try:
            while not seen or seen[-1][0] < job.events:
                if running.poll() is not None:
                    raise SystemExit(f"the sink ended with {running.returncode}")
                time.sleep(_POLL_SECONDS)
                seen.append(_landed(settings.sink_http_port, topics))
        finally:
            running.send_signal(signal.SIGTERM)
    (few, then), (many, now) = (next(each for each in seen if each[0] >= job.events * part) for part in (0.1, 0.9))
    return {"rows_per_second": (many - few) / (now - then)} if many > few else {}


def _landed(port: int, topics: Sequence[str]) -> tuple[int, float]:
    """How many messages of these topics the sink has committed, and when (Unix time) it did so last."""
    said = endpoints.health(f"127.0.0.1:{port}")
    offsets = said.get("offsets") or {}  # none while it starts
    landed = sum(offset for place, offset in offsets.items() if place.rpartition("/")[0] in topics)
    return landed, said.get("last_commit") or 0.0


def plain(job: Job, folder: Path) -> dict[str, float]:
    """Read, decode with pyruhvro, write one Parquet file a topic. Every event is taken for valid."""
    began = time.perf_counter()
    write_all(folder, decode_all(job, folder))
    return {"rows_per_second": job.events / (time.perf_counter() - began)}


def write(job: Job, folder: Path) -> dict[str, float]:
    """Only the writing, of columns that were decoded before."""
    import pyarrow as pa

    began = time.perf_counter()
    with ExitStack() as open_files:
        files = {
            record: pa.ipc.open_file(open_files.enter_context(pa.memory_map(f"{folder}/decoded/{record}.arrow")))
            for record in RAW
        }
        write_all(
            folder,
            (
                (record, pa.Table.from_batches([file.get_batch(number)]))
                for record, file in files.items()
                for number in range(file.num_record_batches)
            ),
        )
    return {"rows_per_second": job.events / (time.perf_counter() - began)}


def write_all(folder: Path, parts: Iterable[tuple[str, pa.Table]]) -> None:
    """Each record's rows to plain/RECORD.parquet, in ZSTD as the sink's files are."""
    import pyarrow.parquet as pq

    (folder / "plain").mkdir()
    with ExitStack() as open_files:
        writers: dict[str, pq.ParquetWriter] = {}
        for record, rows in parts:
            if record not in writers:
                file = folder / "plain" / f"{record}.parquet"
                writers[record] = open_files.enter_context(pq.ParquetWriter(file, rows.schema, compression="zstd"))
            writers[record].write_table(rows)


def decode_all(job: Job, folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """All raw messages as Arrow columns, in batches: record and rows, which also say where in Kafka they come from."""
    import pyarrow as pa
    import pyruhvro
    from confluent_kafka import Consumer, Message, TopicPartition

    from flyback.schemas.certain import pyruhvro_schema

    settings = job.settings(folder)
    records = {job.topics[record]: record for record in RAW}
    consumer = Consumer({**settings.kafka(), "group.id": job.group, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for topic in records for number in range(PARTITIONS)])

    def rows(record: str, messages: list[Message]) -> pa.Table:
        bodies = [message.value()[_WIRE_HEADER:] for message in messages]  # type: ignore[index]
        columns = pa.Table.from_batches([pyruhvro.deserialize_array(bodies, pyruhvro_schema(record))])
        return (
            columns.append_column("_topic", pa.repeat(messages[0].topic(), len(messages)))
            .append_column("_partition", pa.array([message.partition() for message in messages], pa.int32()))
            .append_column("_offset", pa.array([message.offset() for message in messages], pa.int64()))
            .append_column("_arrived_at", pa.array([message.timestamp()[1] for message in messages], pa.int64()))
        )

    waiting: defaultdict[str, list[Message]] = defaultdict(list)
    left = job.events
    while left:
        for message in consumer.consume(5_000, 1.0):
            if message.error() is None:
                waiting[records[message.topic() or ""]].append(message)
                left -= 1
        for record, messages in waiting.items():
            if messages and (len(messages) >= _BATCH or not left):
                yield record, rows(record, messages)
                messages.clear()
    consumer.close()


def main(how: str, folder: Path) -> None:
    """Bring everything into files, then say how fast that was."""
    found = {"sink": sink, "plain": plain, "write": write}[how](Job.read(folder), folder)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
