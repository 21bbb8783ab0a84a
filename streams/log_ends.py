"""Where logs begin and end, asked on a connection of its own."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicPartition

from flyback.streams import restore
from flyback.streams.clients import Clients


class LogEnds:
    """On the connection of a group's consumer the answers would queue behind fetches that wait."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._consumer = restore.reader(clients, isolation="read_uncommitted")

    def of(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset, and the one after the last. Raises KafkaException where no broker answers in time."""
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=restore.LOOK_UP)
        except KafkaException:
            # a client of librdkafka 2.16 that was told of no broker at all may never find one again (issue 5301)
            self._consumer.close()
            self._consumer = restore.reader(self._clients, isolation="read_uncommitted")
            raise
        return low, high

    def close(self) -> None:
        self._consumer.close()
