"""Whether Kafka lets us in. librdkafka tells only an `error_cb` of a refused login, and goes on trying for ever."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flyback.errors import BrokerError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError
    from confluent_kafka.admin import AdminClient, ClusterMetadata

    from flyback.settings import Settings

_REPEAT_SECONDS = 60.0
_FIRST_SECONDS = 2.0
_VARIABLES: Mapping[str, str] = {
    "_AUTHENTICATION": "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or its _FILE) and KAFKA_SASL_MECHANISM",
    "_SSL": "KAFKA_SSL_CA_LOCATION, KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION and KAFKA_SSL_KEY_PASSWORD",
}
_WHEN = re.compile(r" \(after \d+ms in state \w+\)")


class Login:
    """An `error_cb` for clients of these settings: keeps why brokers refused us, and tells `say` once a minute.

    `refused` is a sentence that names the variables to look at, None while no refusal was heard of. A client hears of
    one only while it is polled.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], object] = lambda sentence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: str | None = None
        self._bootstrap = settings.bootstrap_servers
        self._protocol = settings.security_protocol
        self._say = say
        self._clock = clock
        self._said_at: float | None = None

    def __call__(self, error: KafkaError) -> None:
        variables = _VARIABLES.get(error.name())
        if variables is None:
            return
        self.refused = (
            f"Kafka at {self._bootstrap} refuses our login ({_WHEN.sub('', error.str())}): are {variables} right?"
        )
        now = self._clock()
        if self._said_at is None or now - self._said_at >= _REPEAT_SECONDS:
            self._said_at = now
            self._say(self.refused)

    def metadata(self, client: AdminClient | Consumer, seconds: float) -> ClusterMetadata:
        """Brokers and topics, asked for by a client whose `error_cb` this is. Raises BrokerError with what to check.

        A refused login is told within moments; librdkafka alone would try again for all the `seconds`.
        """
        from confluent_kafka import KafkaException

        polled: Any = client
        try:
            return client.list_topics(timeout=min(_FIRST_SECONDS, seconds))
        except KafkaException:
            polled.poll(0)
        try:
            if self.refused is None:
                return client.list_topics(timeout=max(_FIRST_SECONDS, seconds - _FIRST_SECONDS))
        except KafkaException as error:
            polled.poll(0)
            if self.refused is None:
                raise BrokerError(
                    f"no Kafka answers at {self._bootstrap} ({error.args[0].str()}): is KAFKA_BOOTSTRAP_SERVERS (or "
                    "--bootstrap) right, is the broker up, and does "
                    f"KAFKA_SECURITY_PROTOCOL={self._protocol} fit it?"
                ) from error
        raise BrokerError(self.refused)
