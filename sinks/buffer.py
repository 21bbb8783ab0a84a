"""What one table gathers between two commits."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyback.sinks.message import Messages, Place


@dataclass(slots=True)
class Buffer:
    """Messages that are not committed yet, and the offsets before and after them."""

    committed: dict[Place, int]
    """Next offsets in the table."""
    reached: dict[Place, int] = field(default_factory=dict)
    """Next offsets once the messages below are committed."""
    messages: Messages = field(default_factory=Messages)
    size: int = 0
    """Bytes, about."""
    since: float | None = None
    """When (monotonic seconds) the oldest change came that is not committed."""
    oldest: float | None = None
    """When (Unix time) the first message that is not committed arrived in Kafka."""

    def add(self, messages: Messages, now: float) -> None:
        """Messages to become rows; those of a partition in order of offset."""
        if self.oldest is None and messages.arrivals:
            self.oldest = messages.arrivals[0] / 1000
        self.messages.extend(messages)
        self.size += messages.size
        for place, offset in messages.next_offsets().items():
            self.reach(place, offset, now)

    def reach(self, place: Place, next_offset: int, now: float) -> None:
        """Everything before `next_offset` was read: messages, gaps and the markers of transactions."""
        if next_offset > self.next_offset(place):
            self.reached[place] = next_offset
            if self.since is None:
                self.since = now

    def next_offset(self, place: Place) -> int:
        """The offset that is read next; 0 before the first."""
        return self.reached.get(place, self.committed.get(place, 0))

    def is_due(self, now: float, interval: float, rows: int, size: int) -> bool:
        """Whether it is time to commit: by age, rows or bytes."""
        if self.since is None:
            return False
        return now - self.since >= interval or len(self.messages) >= rows or self.size >= size

    def clear(self) -> None:
        """After a commit."""
        self.committed |= self.reached
        self.reached = {}
        self.messages = Messages()
        self.size = 0
        self.since = self.oldest = None
