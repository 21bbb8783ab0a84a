"""How far workers and sinks are, and the longest time without progress: asked of Kafka and the lake, not of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flyback.settings import Settings
from flyback.streams.topology import Topology

SAMPLE_SECONDS = 0.2
_ANSWER_SECONDS = 5.0


class Meter:
    """Samples while it runs. `longest` is in seconds: of the join while raw events were outstanding, of the lake
    while commits are due."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topology(settings).raw
        self._admin = AdminClient({**settings.kafka(), "log_level": 0})
        self._lake = Path(settings.lake)
        self._committed = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.join_stall = 0.0
        self.lake_stall = 0.0

    def start(self) -> None:
        """Begin to sample."""
        self._thread = threading.Thread(target=self._sample, name="stall meter", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling; the figures stay."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        self.stop()

    def committed(self) -> int:
        """The group's offsets, summed; the last known sum while no broker answers."""
        asked = [ConsumerGroupTopicPartitions(self._settings.group, self._places())]
        try:
            [future] = self._admin.list_consumer_group_offsets(asked, request_timeout=_ANSWER_SECONDS).values()
            found = future.result(_ANSWER_SECONDS).topic_partitions or []
            self._committed = sum(max(0, place.offset) for place in found)
        except (KafkaException, TimeoutError):
            pass
        return self._committed

    def landed(self) -> int:
        """The lake's commits, counted."""
        return sum(_versions(log) for log in self._lake.glob("*/_delta_log"))

    def outstanding(self) -> int:
        """Raw events that are not committed yet. Raises KafkaException where no broker answers."""
        asked: Any = {place: OffsetSpec.latest() for place in self._places()}  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(asked, request_timeout=_ANSWER_SECONDS)
        ends = sum(future.result(_ANSWER_SECONDS).offset for future in futures.values())
        return int(ends) - self.committed()

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._topics for p in range(self._settings.partitions)]

    def _sample(self) -> None:
        join, lake = _Stall(self.committed), _Stall(self.landed)
        while not self._ending.wait(SAMPLE_SECONDS):
            try:
                waiting = self.outstanding() > 0
            except (KafkaException, TimeoutError):
                waiting = True
            self.join_stall = max(self.join_stall, join.look(waiting))
            self.lake_stall = max(self.lake_stall, lake.look(waiting))


class _Stall:
    """Time since the last progress, while something waited to be done."""

    def __init__(self, progress: Callable[[], int]) -> None:
        self._progress = progress
        self._at = -1
        self._since = time.monotonic()

    def look(self, waiting: bool) -> float:
        now, at = time.monotonic(), self._progress()
        stall = now - self._since
        if at != self._at or not waiting:
            self._at, self._since = at, now
        return stall


def _versions(log: Path) -> int:
    """How often a Delta table was committed to: the number of its last version, and one."""
    return max((int(file.stem) + 1 for file in log.glob("*.json") if file.stem.isdigit()), default=0)
