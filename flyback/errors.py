"""Every error Flyback raises on purpose. Each message says what was wrong, where, and what to do next."""

from __future__ import annotations

from typing import Any


class FlybackError(Exception):
    """Base of all of Flyback's errors; the CLI prints its message without a traceback and exits with `exit_code`."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # by default pickle calls __init__ with the message alone: a process pool would hang on such an error
        return _unpickled, (type(self), self.args, vars(self))


def _unpickled(kind: type[FlybackError], args: tuple[Any, ...], attributes: dict[str, Any]) -> FlybackError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class ConfigurationError(FlybackError):
    """A setting is missing, contradictory or out of range."""

    exit_code = 2


class InvalidEvent(FlybackError, ValueError):
    """An event breaks a rule of its record. `field` names the culprit, `reason` is a stable snake_case word."""

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.reason = reason
        self.field = field


class BufferFull(FlybackError):
    """The SDK's bounded buffer has no room: the event was not taken. Retry later, or raise FLYBACK_BUFFER_EVENTS."""


class DeliveryFailed(FlybackError):
    """The SDK could not deliver an event; `on_error` is told. `code` is Kafka's or librdkafka's name of the error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownSchema(FlybackError):
    """A message names a schema id that the catalog does not know (yet): a newer producer may be ahead of us."""

    def __init__(self, schema_id: int, where: str = "") -> None:
        super().__init__(
            f"unknown schema id {schema_id}{' at ' + where if where else ''}: register that schema, "
            "upgrade Flyback, or set FLYBACK_UNKNOWN_SCHEMA=dead-letter"
        )
        self.schema_id = schema_id


class RegistryUnavailable(FlybackError):
    """The schema registry does not answer; callers wait and retry."""


class IncompatibleSchema(FlybackError):
    """A schema is not fully compatible with an earlier release of itself, or the registry refused it."""


class TopicMismatch(FlybackError):
    """A topic is missing or not configured as the topology says."""


class RefusedToStart(FlybackError):
    """Bookkeeping (offsets, state, lake) contradicts itself or belongs to another cluster. Nothing was changed."""

    exit_code = 3


class BrokenState(FlybackError):
    """The worker's state folder cannot be opened or written: disk full, permissions, or a broken disk."""


class DeadLetterRateExceeded(FlybackError):
    """Too many dead letters a minute: a broken producer, not a broken message. Nothing of the batch was committed."""

    exit_code = 4


class WorkerFenced(FlybackError):
    """Another process took over this worker's identity; this one must end. A supervisor restarts it."""

    exit_code = 5


class LakeError(FlybackError):
    """The lake is not readable, belongs to another cluster, or a query names something it does not hold."""


class BrokerError(FlybackError):
    """A broker could not be started or reached."""


class CorpusError(FlybackError):
    """The demo's texts cannot be fetched, or are not the published ones."""
