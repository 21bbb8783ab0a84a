"""The one page to read first: every topic with its key, record, writer and readers.

`flyback topology` prints it, `flyback topics` creates and checks it, the tests read it. Names below are without
the prefix (`Settings.topic_prefix`, default `flyback.`); `Topology(settings)` gives them with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from flyback.settings import Settings

EMBEDDED_CLUSTER = "tansu_cluster"
"""The embedded broker's cluster id, always."""
_MS = timedelta(milliseconds=1)


class Kind(Enum):
    """What a topic holds, from which its configuration follows."""

    RAW = "raw"  # written by services; the changelog of everything else
    DERIVED = "derived"  # one record for each pair, in transactions
    COUNTS = "counts"  # absolute values, compacted
    OFFSETS = "offsets"  # a second copy of the group's offsets, compacted
    REPLAYS = "replays"  # which dead letters were put back, compacted
    ALERTS = "alerts"
    DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `record` is its Avro record's name, None where the bytes are as they came."""

    name: str
    kind: Kind
    record: str | None
    key: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


RAW = (
    Topic("predictions.v1", Kind.RAW, "Prediction", "task_id", ("services",), ("engine", "sink")),
    Topic("corrections.v1", Kind.RAW, "Correction", "task_id", ("reviewers",), ("engine", "sink")),
    Topic("grades.v1", Kind.RAW, "Grade", "task_id", ("graders",), ("engine", "sink")),
)
DERIVED = (
    Topic("examples.v1", Kind.DERIVED, "Example", "task_id", ("engine", "flyback reconcile"), ("sink",)),
    Topic("graded-examples.v1", Kind.DERIVED, "GradedExample", "task_id", ("engine", "flyback reconcile"), ("sink",)),
    Topic("coaching.v1", Kind.DERIVED, "Coaching", "task_id", ("engine", "flyback reconcile"), ("sink",)),
)
FAILURE_RATES = Topic(
    "failure-rates.v1",
    Kind.COUNTS,
    "FailureRate",
    "partition, minute, actor, version, segment",
    ("engine",),
    ("app", "alert watch", "sink"),
)
PROGRESS = Topic("progress.v1", Kind.OFFSETS, "Progress", "group, topic, partition", ("engine",), ("engine",))
REPLAYS = Topic(
    "replays.v1",
    Kind.REPLAYS,
    "Replay",
    "topic, partition, offset, arrival of the dead letter",
    ("flyback dlq",),
    ("flyback dlq",),
)
ALERTS = Topic("alerts.v1", Kind.ALERTS, "Alert", "alert_id", ("alert watch",), ("alert watch", "sink"))
DEAD_LETTERS = tuple(
    Topic(f"{topic.name}.dlq", Kind.DEAD_LETTERS, None, "as it came", (writer,), ("sink", "flyback dlq"))
    for topics, writer in ((RAW, "engine"), (DERIVED, "sink"), ((ALERTS,), "alert watch"))
    for topic in topics
)
_ONE_PARTITION = (Kind.OFFSETS, Kind.REPLAYS, Kind.ALERTS)
TOPICS = (*RAW, *DERIVED, FAILURE_RATES, PROGRESS, REPLAYS, ALERTS, *DEAD_LETTERS)


class Topology:
    """The topics under one prefix, with the configuration that each is created with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_name = {settings.topic_prefix + topic.name: topic for topic in TOPICS}
        self._records = {topic.record: settings.topic_prefix + topic.name for topic in TOPICS if topic.record}

    def __getitem__(self, full_name: str) -> Topic:
        return self._by_name[full_name]

    @property
    def names(self) -> list[str]:
        """All topics, with the prefix."""
        return list(self._by_name)

    @property
    def raw(self) -> list[str]:
        """The three topics that the engine joins, with the prefix."""
        return self.of(Kind.RAW)

    def of(self, kind: Kind) -> list[str]:
        """The topics of one kind, with the prefix."""
        return [name for name, topic in self._by_name.items() if topic.kind is kind]

    def topic_of(self, record: str) -> str:
        """The topic, with the prefix, that holds this Avro record (`Prediction`, `Example` ...)."""
        return self._records[record]

    def dead_letters_of(self, full_name: str) -> str:
        """The dead-letter topic of a raw or derived topic, or of the alerts."""
        return f"{full_name}.dlq"

    def partitions(self, full_name: str) -> int:
        """How many partitions the topic is created with."""
        return 1 if self[full_name].kind in _ONE_PARTITION else self._settings.partitions

    @property
    def app_group(self) -> str:
        """The consumer group in which the workers' app (Faust) reads the failure rates."""
        return f"{self._settings.topic_prefix}app"

    @property
    def alert_group(self) -> str:
        """The consumer group on the alerts that says which worker watches, and what the webhook was told."""
        return f"{self._settings.topic_prefix}alerts"

    @property
    def derived_max_bytes(self) -> int:
        """Largest derived or dead-letter message: a pair of two raw events of the largest size, and room."""
        return 2 * self._settings.max_event_bytes + 65_536

    @property
    def minimum_raw_retention(self) -> timedelta:
        """Raw topics are the changelog: less than three join windows and a restore would miss events."""
        return 3 * self._settings.join_window

    def config(self, full_name: str) -> Mapping[str, str]:
        """The topic's configuration at creation; `flyback topics check` compares it with the broker's."""
        kind = self[full_name].kind
        room = 65_536  # batch and record headers, key, traceparent
        if kind is Kind.RAW:
            return {
                "cleanup.policy": "delete",
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(self._settings.max_event_bytes + room),
                # one window more than the minimum, for the longest outage
                "retention.ms": str(4 * self._settings.join_window // _MS),
                "retention.bytes": "-1",
            }
        if kind in (Kind.OFFSETS, Kind.REPLAYS):
            # small segments, so that compaction keeps short what has to be read as a whole
            return {"cleanup.policy": "compact", "segment.ms": "3600000", "segment.bytes": "16777216"}
        if kind is Kind.COUNTS:
            return {
                "cleanup.policy": "compact,delete",
                "retention.ms": str(2 * self._settings.join_window // _MS),
            }
        sized = {"max.message.bytes": str(self.derived_max_bytes + room)}
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(4 * self._settings.join_window // _MS),
            **sized,
        }


def partition_for(key: bytes, partitions: int) -> int:
    """The partition that Java's default partitioner gives this key: murmur2, sign bit cleared, modulo.

    The same as librdkafka's `murmur2_random` for a key that is not empty. Source: Kafka's `Utils.murmur2`.
    """
    length = len(key)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 ^ (k ^ k >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if tail := key[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions
