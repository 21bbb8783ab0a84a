"""Rates as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from flyback.errors import ConfigurationError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def wanted(request: Request) -> bool:
    """Whether CSV is asked for, by `format` or by the Accept header. Raises ConfigurationError for other formats."""
    chosen = request.query_params.get("format")
    if chosen not in (None, "csv", "json"):
        raise ConfigurationError("format: one of csv, json")
    return chosen == "csv" or (chosen is None and request.headers.get("accept", "").startswith("text/csv"))


def answer(rows: Sequence[Mapping[str, Any]], name: str) -> Response:
    """One line a row; an estimate takes a column for each of its values."""
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["predictions"])
    writer.writeheader()
    writer.writerows(flat)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), headers=headers, media_type="text/csv")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{part}" if part != "value" else name: number for part, number in value.items()}
        else:
            found[name] = _harmless(value)
    return found


def _harmless(value: object) -> object:
    """A text that spreadsheets would take for a formula gets a quote before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
