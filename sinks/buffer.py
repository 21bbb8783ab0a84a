"""What one table gathers between two commits."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyback.sinks.message import Message, Place


@dataclass(slots=True)
class Buffer:
    """Messages that are not committed yet, and the offsets before and after them."""

    committed: dict[Place, int]
    """Next offsets in the table."""
    reached: dict[Place, int] = field(default_factory=dict)
    """Next offsets once the messages below are committed."""
    messages: list[Message] = field(default_factory=list)
    size: int = 0
    """Bytes, about."""
    since: float | None = None
    """When (monotonic seconds) the oldest change came that is not committed."""

    def add(self, message: Message, now: float) -> None:
        """One message to become a row."""
        self.messages.append(message)
        self.size += message.size
        self.reach((message.topic, message.partition), message.offset + 1, now)

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
        self.messages = []
        self.size = 0
        self.since = None
