"""Dead letters for the tests of the way back, and what came back."""

from __future__ import annotations

from confluent_kafka import Message, Producer

from flyback import history
from flyback.replay import FROM
from flyback.schemas import wire
from flyback.settings import Settings
from flyback.streams import dlq
from flyback.streams.topology import Topology
from tests.streams.records import Raw, a_correction

ARRIVED = 1_767_225_600_000


class Cemetery:
    """Writes dead letters as engine and sink do, of messages that need not have existed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(settings.kafka())
        self.buried = 0

    def bury(
        self, message: Raw, reason: str, offset: int | None = None, arrived_at: int = ARRIVED, max_bytes: int = 100_000
    ) -> str:
        """The coordinates that the letter names."""
        topic = Topology(self._settings).topic_of(message.record)
        offset = self.buried if offset is None else offset
        headers = [("traceparent", b"00-1")]
        value, described = dlq.letter(topic, 0, offset, arrived_at, message.value, headers, reason, "Why.", max_bytes)
        self._producer.produce(topic + ".dlq", value, message.key, 0, headers=list(described))
        assert self._producer.flush(60) == 0
        self.buried += 1
        return f"{topic}/0/{offset}"


def put_back(settings: Settings, record: str = "Correction") -> list[Message]:
    topic = Topology(settings).topic_of(record)
    history.next_offsets(settings, [topic])  # a transaction's messages can be seen some moments after its commit
    return list(history.read(settings, [topic]))


def origins(settings: Settings) -> list[str]:
    """Where the messages in the corrections' topic had stood, as far as they were put back; in order."""
    headers = [dict(wire.headers(message)) for message in put_back(settings)]
    return sorted((found[FROM] or b"").decode() for found in headers if FROM in found)


def tasks(number: int) -> list[Raw]:
    return [a_correction(f"task {i}") for i in range(number)]
