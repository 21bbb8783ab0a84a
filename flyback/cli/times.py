"""Times and durations as a person types them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flyback.errors import ConfigurationError


def moment(option: str, text: str) -> datetime:
    """A time in UTC, as which it is read where it names no zone. Raises ConfigurationError naming the option."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{option} {text}: write a time as 2026-01-31 or 2026-01-31T12:00") from None


def duration(option: str, text: str) -> timedelta:
    """How long: 10m, 1h, 7d. Raises ConfigurationError naming the option."""
    from pydantic import TypeAdapter, ValidationError

    from flyback.settings import Duration

    try:
        found: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise ConfigurationError(f"{option} {text}: write a number and its unit (s, m, h or d), such as 1h") from None
    return found


def moment_or_ago(option: str, text: str, now: datetime) -> datetime:
    """A time in UTC, or how long ago it was. Raises ConfigurationError naming the option."""
    try:
        return now - duration(option, text)
    except ConfigurationError:
        pass
    except OverflowError:
        raise ConfigurationError(f"{option} {text}: it is longer ago than times can be written") from None
    try:
        return moment(option, text)
    except ConfigurationError:
        raise ConfigurationError(
            f"{option} {text}: write how long ago (1h, 7d), or a time as 2026-01-31T12:00"
        ) from None
