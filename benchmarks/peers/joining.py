"""The join as the Python peers do it, event by event, over whatever state their framework keeps for a partition."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from benchmarks.job import Job
from flyback.schemas import codec
from flyback.schemas.codec import bundled
from flyback.streams.join import Arrived, derive

_PLACE = struct.Struct(">BIQQ")
_RAW = ("Prediction", "Correction", "Grade")


class State(Protocol):
    """Of the partition whose event is in hand."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


class Output(NamedTuple):
    """A derived event to be written."""

    topic: str
    key: bytes
    value: bytes


class Join:
    """Feedback with its prediction in either order, each pair once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._raw = [job.topics[record] for record in _RAW]

    def take(
        self, state: State, topic: str, partition: int, offset: int, arrived_at: int, value: bytes
    ) -> Iterator[Output]:
        """What one event derives. The state keeps events as they came, and where they stood."""
        stored = _PLACE.pack(self._raw.index(topic), partition, offset, arrived_at) + value
        arrived = self._arrived(stored)
        identity = "/".join(arrived.identity)
        if state.get(identity) is not None:
            return
        episode = "/".join(arrived.identity[1:3])
        if arrived.record == "Prediction":
            state.set(identity, stored)
            if (waiting := state.get(f"waiting/{episode}")) is not None:
                state.delete(f"waiting/{episode}")
                for feedback in pickle.loads(waiting):
                    yield self._output(arrived, self._arrived(feedback))
            return
        state.set(identity, b"seen")
        if (prediction := state.get(f"Prediction/{episode}")) is not None:
            yield self._output(self._arrived(prediction), arrived)
        else:
            waiting = state.get(f"waiting/{episode}")
            state.set(f"waiting/{episode}", pickle.dumps([*(pickle.loads(waiting) if waiting else []), stored]))

    def _arrived(self, stored: bytes) -> Arrived:
        kind, partition, offset, arrived_at = _PLACE.unpack_from(stored)
        event = codec.decode(_RAW[kind], stored[_PLACE.size :], bundled(_RAW[kind]))
        return Arrived(_RAW[kind], event, self._raw[kind], partition, offset, arrived_at)

    def _output(self, prediction: Arrived, feedback: Arrived) -> Output:
        record, event = (derived := derive(prediction, feedback)).record, derived.event
        value = codec.encode(record, event, self._job.schemas[record]["id"])
        return Output(self._job.topics[record], event["task_id"].encode(), value)
