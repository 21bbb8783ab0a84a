"""What a table gathers between two commits."""

from __future__ import annotations

from flyback.sinks.buffer import Buffer
from flyback.sinks.message import Message, Messages


def test_the_oldest_message_is_the_first_that_is_not_committed() -> None:
    buffer = Buffer(committed={("t", 0): 0})
    buffer.reach(("t", 0), 1, now=5.0)
    assert buffer.oldest is None
    for offset, arrival in enumerate([7_500, 8_000]):
        buffer.add(Messages.of([Message("t", 0, offset, arrival, b"k", b"v", [])]), now=6.0)
    assert buffer.oldest == 7.5
    buffer.clear()
    assert buffer.oldest is None
