"""What `.env.example` has to say. `python -m tests.packaging.env_example` (or `make env-example`) prints it."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from flyback.settings import Settings

HEADER = """\
# Every setting of Flyback, with its default. Copy this file to .env, or set the variables in the environment, which
# wins over .env. Durations are written 100ms, 5s, 10m, 12h, 30d. A password may come from a file instead: its
# variable's name with _FILE added, such as KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka, in the environment only.
"""
UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))


def text() -> str:
    """The whole file: a paragraph for each setting, in the order of `Settings`."""
    return "\n".join([HEADER, *(paragraph(field) for field in Settings.model_fields.values())])


def paragraph(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    one_of = f" One of {', '.join(choices)}." if choices else ""
    return f"# {field.description}{one_of}\n# {field.validation_alias}={written(field.default)}\n"


def written(value: object) -> str:
    """A default as a person writes it."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        for unit, length in UNITS:
            if value and not value % length:
                return f"{value // length}{unit}"
        return f"{value // timedelta(milliseconds=1)}ms"
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(text())
