"""What the engine reads at once, and what that comes to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flyback.streams.clients import Message
from flyback.streams.matcher import Matched
from flyback.streams.outputs import Output
from flyback.streams.partition import Partition
from flyback.streams.state import Meta


@dataclass
class Batch:
    """Messages of live partitions, by partition and topic, and the group metadata at the time they were read."""

    messages: dict[tuple[Partition, str], list[Message]]
    group_metadata: Any

    def oldest(self) -> float | None:
        """When the first of the messages arrived, Unix time; None of an empty batch."""
        return min((found[0].timestamp()[1] / 1000 for found in self.messages.values()), default=None)

    def halves(self) -> Iterator[Batch]:
        """Two batches of half as many messages, to be taken one after the other."""
        places = [(place, message) for place, found in self.messages.items() for message in found]
        for half in places[: len(places) // 2], places[len(places) // 2 :]:
            messages = defaultdict(list)
            for place, message in half:
                messages[place].append(message)
            yield Batch(messages, self.group_metadata)


@dataclass
class Work:
    """What a batch comes to: what to write to Kafka, and then what to remember of each partition."""

    outputs: list[Output] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    steps: list[tuple[Partition, Matched, Meta]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
