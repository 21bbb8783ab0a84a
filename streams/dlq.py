"""Dead letters: the original message, byte for byte, with where it stood and why it was refused in its headers.

The header names are those of Kafka Connect, so that existing tools show them.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from flyback.errors import DeadLetterRateExceeded

PREFIX = "__connect.errors."
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"
TIMESTAMP = PREFIX + "timestamp"
REASON = PREFIX + "exception.class.name"
MESSAGE = PREFIX + "exception.message"
SHA256 = PREFIX + "value.sha256"
SIZE = PREFIX + "value.size"

UNDELIVERED = "webhook_failed"
"""The reason for an alert's dead letter, which is a copy; those of events are `schemas.intake.REASONS`."""

Headers = list[tuple[str, bytes | None]]


def letter(
    topic: str,
    partition: int,
    offset: int,
    arrived_at: int,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
    reason: str,
    message: str,
    max_bytes: int,
) -> tuple[bytes | None, Headers]:
    """Value and headers of the dead letter for a message. Above `max_bytes` the value is replaced by hash and size."""
    facts = {
        TOPIC: topic,
        PARTITION: str(partition),
        OFFSET: str(offset),
        TIMESTAMP: str(arrived_at),
        REASON: reason,
        MESSAGE: message,
    }
    if value is not None and len(value) > max_bytes:
        facts |= {SHA256: hashlib.sha256(value).hexdigest(), SIZE: str(len(value))}
        value = None
    kept = [(name, content) for name, content in headers or () if not name.startswith(PREFIX)]
    return value, [*kept, *((name, text.encode()) for name, text in facts.items())]


def integer(text: str | None, largest: int) -> int | None:
    """The number in a header, None where it holds none from 0 to `largest`: other programs write headers too."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if 0 <= number <= largest else None


class Limit:
    """How many dead letters one process may write in a minute: `most`. More come from a broken producer."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._written: deque[tuple[float, int]] = deque()

    def check(self, letters: Counter[tuple[str, str]]) -> None:
        """Raises DeadLetterRateExceeded where these, by topic and reason, would be too many."""
        while self._written and self._written[0][0] < self._clock() - 60:
            self._written.popleft()
        total = letters.total() + sum(count for _, count in self._written)
        if letters and total > self._most:
            (topic, reason), count = letters.most_common(1)[0]
            raise DeadLetterRateExceeded(
                f"{total} dead letters within a minute, the latest {count} of {topic} for {reason}: stopped "
                "before writing them. Mend the producer; or raise FLYBACK_MAX_DEAD_LETTERS to let them pass"
            )

    def written(self, letters: int) -> None:
        """Remember how many were written just now."""
        self._written.append((self._clock(), letters))
