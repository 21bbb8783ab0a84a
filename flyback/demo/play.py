"""The demo's services and reviewers: they send the planned events through the SDK, as anybody's would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import Event

from flyback.client import Client
from flyback.content import Actor, human
from flyback.demo.workload import Planned, PlannedPrediction
from flyback.errors import BrokerError, BufferFull
from flyback.settings import Settings

STALL_SECONDS = 60.0
_REPORT_EVERY = 500

Progress = Callable[[int], None]
"""Called now and then with how many events were handed to the SDK."""


class Player:
    """Sends planned events with one SDK client. A context manager; on exit it closes the client."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._client = Client(settings, on_error=lambda kind, ids, error: self._failures.append(str(error)))
        self._progress = progress
        self._failures: list[str] = []
        self.sent = 0

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(0)

    def play(self, events: Iterable[Planned]) -> None:
        """Send all events as fast as the buffer takes them, and wait until Kafka has them all.

        Raises BrokerError when one could not be delivered.
        """
        for event in events:
            self._send(event)
            if self.sent % _REPORT_EVERY == 0:
                self._progress(self.sent)
        self._deliver()
        self._progress(self.sent)

    def play_paced(self, events: Iterable[tuple[datetime, Planned]], stop: Event) -> None:
        """Send each event at its moment, until the last or `stop`. Raises BrokerError as `play` does."""
        for moment, event in events:
            left = (moment - datetime.now(UTC)).total_seconds()
            if stop.wait(max(0.0, left)):
                break
            self._send(event)
            self._progress(self.sent)
        self._deliver()

    def _send(self, event: Planned) -> None:
        deadline = time.monotonic() + STALL_SECONDS
        while True:
            try:
                _hand_over(self._client, event)
            except BufferFull:
                if time.monotonic() > deadline:
                    raise
                self._client.flush(0.5)  # as slow as Kafka is
            else:
                self.sent += 1
                return

    def _deliver(self) -> None:
        left = self._client.flush(STALL_SECONDS)
        if self._failures or left:
            why = self._failures[0] if self._failures else f"Kafka did not take them in {STALL_SECONDS:g} s"
            raise BrokerError(f"{len(self._failures) + left} of {self.sent} events could not be sent: {why}")


def _hand_over(client: Client, event: Planned) -> None:
    if isinstance(event, PlannedPrediction):
        client.predict(
            prediction_id=event.prediction_id,
            task_id=event.task_id,
            actor=Actor(event.actor_kind, event.actor_name, event.actor_version),
            input=event.input,
            output=event.output,
            confidence=event.confidence,
            segment=event.segment,
            attributes=event.attributes,
            occurred_at=event.occurred_at,
        )
    elif event.output is None:
        client.confirm(
            correction_id=event.correction_id,
            task_id=event.task_id,
            prediction_id=event.prediction_id,
            author=human(event.author_name),
            attributes=event.attributes,
            occurred_at=event.occurred_at,
        )
    else:
        client.correct(
            correction_id=event.correction_id,
            task_id=event.task_id,
            prediction_id=event.prediction_id,
            output=event.output,
            author=human(event.author_name),
            reason=event.reason,
            error_category=event.error_category,
            attributes=event.attributes,
            occurred_at=event.occurred_at,
        )
