"""The alert rules that the settings name, read from their file."""

from __future__ import annotations

from pathlib import Path

from flyback.errors import ConfigurationError
from flyback.settings import Settings
from flyback.streams.alerts.rules import Rule, defaults, parse


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """Those in FLYBACK_ALERT_RULES, else the built-in ones. Raises ConfigurationError with all that is wrong."""
    return defaults() if settings.alert_rules is None else read_rules(settings.alert_rules)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a TOML file. Raises ConfigurationError, also where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the alert rules {path} cannot be read: {error.strerror}; is the path, or FLYBACK_ALERT_RULES, right?"
        ) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"the alert rules {path} are no UTF-8 text") from None
    return parse(text, str(path))
