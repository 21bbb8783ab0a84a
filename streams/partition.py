"""One partition number as a worker holds it: the state, the matcher over it, and how far both are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flyback.streams.folder_size import FolderSize
from flyback.streams.matcher import Matcher
from flyback.streams.restore import Progress
from flyback.streams.state import Meta, Store


@dataclass(eq=False)
class Partition:
    """One number of all three raw topics, with this worker's state of it."""

    number: int
    store: Store
    matcher: Matcher
    meta: Meta
    size: FolderSize
    live: bool = False
    start: dict[str, int] = field(default_factory=dict)
    """Where live processing goes on, by topic; known once the committed offsets were read."""
    unseen: set[str] = field(default_factory=set)
    """Topics of which no message has come since the partition went live."""
    waiting: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """By topic, when it was last looked at: where it was, where the log ended, at how many looks it had not moved."""
    unclaimed: bool = False
    """Whether the group has not committed where it starts for some topic of it."""
    cut: set[str] = field(default_factory=set)
    """Topics that are replayed from a log start that is not the first offset."""
    progress: Progress | None = None
    """How far it is restored; None until that is planned."""

    def status(self) -> dict[str, Any]:
        """For health checks: events replayed of those to be replayed (None until that is known), bytes of state."""
        return {
            "live": self.live,
            "restored": self.progress.done if self.progress else None,
            "to_restore": self.progress.total if self.progress else None,
            "state_bytes": self.size(),
        }
