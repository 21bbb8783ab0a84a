"""Where the lake is: a folder, or `s3://bucket/prefix` with the usual AWS_* variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from flyback.errors import LakeError

_ORNAMENTS = re.compile(r"\x1b\[[0-9;]*m|↳")
_REASON_LENGTH = 1_000


def is_remote(lake: str) -> bool:
    """Whether the lake is an object store's address rather than a folder."""
    return "://" in lake


def table_path(lake: str, table: str) -> str:
    """The address of one table."""
    return f"{lake.rstrip('/')}/{table}" if is_remote(lake) else str(Path(lake).absolute() / table)


def prepare(lake: str) -> None:
    """Make the folder, so that the lake can be opened before its first row. Raises LakeError."""
    if not is_remote(lake):
        with lake_errors(lake):
            Path(lake).mkdir(parents=True, exist_ok=True)


def options() -> dict[str, str]:
    """What deltalake does not read from the environment by itself: leave to use http, where the endpoint says so."""
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"AWS_ALLOW_HTTP": "true"} if plain else {}


def open_table(lake: str, table: str, version: int | None = None) -> DeltaTable | None:
    """The Delta table at its newest or at a given version, None where there is none. Raises LakeError."""
    path = table_path(lake, table)
    with lake_errors(path):
        try:
            return DeltaTable(path, version=version, storage_options=options())
        except TableNotFoundError:
            return None


@contextmanager
def lake_errors(path: str) -> Iterator[None]:
    """Whatever storage and Delta raise, as a LakeError that names the path."""
    try:
        yield
    except (DeltaError, OSError, ValueError) as error:
        raise LakeError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """All of it in one line: Delta prints causes below each other, in colour, and the last one says what happened."""
    lines = (line.strip() for line in _ORNAMENTS.sub("", str(error)).splitlines())
    return ": ".join(line for line in lines if line)[:_REASON_LENGTH] or type(error).__name__
