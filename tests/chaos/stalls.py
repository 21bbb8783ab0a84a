"""How far workers and sinks are, and the longest time without progress: asked of Kafka and the lake, not of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flyback.settings import Settings
from flyback.streams.topology import Topology

SAMPLE_SECONDS = 0.2
_ANSWER_SECONDS = 5.0


class Meter:
    """`join_stall` is the longest time in which a partition had raw events to be joined and none of them was; in
    `lake_stall` there was no commit to any table though events came. In seconds, sampled from `start` to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topology(settings).raw
        self._admin = AdminClient({**settings.kafka(), "log_level": 0})
        reading: dict[str, Any] = {"log_level": 0, "group.id": settings.group, "isolation.level": "read_uncommitted"}
        self._group = Consumer({**settings.kafka(), **reading})  # never joins it
        self._lake = Path(settings.lake)
        self._committed: dict[int, int] = {}
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

    def committed(self) -> int:
        """The group's offsets, summed; the last known sum while no broker answers."""
        return sum(self._committed_by_partition().values())

    def landed(self) -> int:
        """The lake's commits, counted."""
        return sum(_versions(log) for log in self._lake.glob("*/_delta_log"))

    def _committed_by_partition(self) -> Mapping[int, int]:
        with contextlib.suppress(KafkaException):
            # not by the admin client: where the coordinator is lost meanwhile, librdkafka 2.16 ends the process (#4605)
            places = self._group.committed(self._places(), timeout=_ANSWER_SECONDS)
            if all(place.error is None for place in places):
                self._committed = _by_partition((place.partition, max(0, place.offset)) for place in places)
        return self._committed

    def _ends_by_partition(self) -> Mapping[int, int]:
        """Raises KafkaException or TimeoutError where no broker answers."""
        asked: Any = {place: OffsetSpec.latest() for place in self._places()}  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(asked, request_timeout=_ANSWER_SECONDS)
        return _by_partition((p.partition, future.result(_ANSWER_SECONDS).offset) for p, future in futures.items())

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._topics for p in range(self._settings.partitions)]

    def _sample(self) -> None:
        joins = [_Stall() for _ in range(self._settings.partitions)]
        lake = _Stall()
        while not self._ending.wait(SAMPLE_SECONDS):
            committed = self._committed_by_partition()
            try:
                ends = self._ends_by_partition()
                waiting = [ends[p] > committed.get(p, 0) for p in range(len(joins))]
            except (KafkaException, TimeoutError):
                waiting = [True] * len(joins)
            for number, stall in enumerate(joins):
                self.join_stall = max(self.join_stall, stall.look(committed.get(number, 0), waiting[number]))
            self.lake_stall = max(self.lake_stall, lake.look(self.landed(), any(waiting)))


class _Stall:
    """Time since the last progress, while something waited to be done."""

    def __init__(self) -> None:
        self._at = -1
        self._since = time.monotonic()

    def look(self, at: int, waiting: bool) -> float:
        """Seconds without progress until now, 0 where there was nothing to be done either."""
        now = time.monotonic()
        moved = at != self._at
        stall = now - self._since if moved or waiting else 0.0
        if moved or not waiting:
            self._at, self._since = at, now
        return stall


def _by_partition(offsets: Iterable[tuple[int, int]]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for partition, offset in offsets:
        found[partition] += offset
    return dict(found)


def _versions(log: Path) -> int:
    """How often a Delta table was committed to: the number of its last version, and one."""
    return max((int(file.stem) + 1 for file in log.glob("*.json") if file.stem.isdigit()), default=0)
