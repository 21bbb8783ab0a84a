"""The join as a stateful function of quixstreams, exactly once, over its state in RocksDB.

python -m benchmarks.peers.quixstreams.peer FOLDER      (which holds job.json)
"""

from __future__ import annotations

import sys
from pathlib import Path

from quixstreams import Application, State, message_context  # type: ignore[import-not-found]

from benchmarks.job import Job
from benchmarks.peers.joining import Join, Output


class _State:
    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._state.get_bytes(key)
        return found

    def set(self, key: str, value: bytes) -> None:
        self._state.set_bytes(key, value)

    def delete(self, key: str) -> None:
        self._state.delete(key)


def main(folder: Path) -> None:
    """Until all events are taken; the last transaction is committed when the application stops."""
    job = Job.read(folder)
    join, taken = Join(job), 0
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.1,
        state_dir=folder / "state",
        producer_extra_config={"compression.type": "lz4", "partitioner": "murmur2_random"},
        loglevel="WARNING",
    )

    def step(value: bytes, key: bytes, arrived_at: int, headers: object, state: State) -> list[Output]:
        nonlocal taken
        place = message_context()
        found = list(join.take(_State(state), place.topic, place.partition, place.offset, arrived_at, value))
        taken += 1
        if taken == job.events:
            app.stop()
        return found

    raw = [
        app.dataframe(app.topic(job.topics[record], key_deserializer="bytes", value_deserializer="bytes"))
        for record in ("Prediction", "Correction", "Grade")
    ]
    joined = raw[0].concat(raw[1]).concat(raw[2]).apply(step, stateful=True, expand=True, metadata=True)
    for record in ("Example", "GradedExample"):
        topic = app.topic(job.topics[record], key_serializer="bytes", value_serializer="bytes")
        of_one = joined.filter(lambda output, name=topic.name: output.topic == name)
        of_one.apply(lambda output: output.value).to_topic(topic)
    app.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
