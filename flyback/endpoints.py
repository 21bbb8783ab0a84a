"""What workers and sinks say of themselves on `/healthz` and `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from flyback.errors import ConfigurationError
from flyback.settings import Settings

_SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came from one address: `health`, or the `problem` why nothing did."""

    address: str
    health: dict[str, Any] | None
    problem: str | None = None


def usual(settings: Settings, port: int) -> list[str]:
    """The address that the settings name; none where the port is any free one."""
    return [reachable(settings.http_host, port)] if port else []


def reachable(host: str, port: int) -> str:
    """`host:port` to ask what listens there."""
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ask(addresses: Sequence[str], mark: str) -> list[Answer]:
    """What each address (`host:port`) says. `mark`: the field that tells a worker (or sink) from something else.

    Raises ConfigurationError for what is no address. Who is down or silent is an answer too.
    """
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or "/" in address:
            raise ConfigurationError(f"{address} is no address of an endpoint: give HOST:PORT, such as 127.0.0.1:9464")
    if not addresses:
        return []
    with ThreadPoolExecutor(len(addresses)) as threads:
        return list(threads.map(lambda address: _ask(address, mark), addresses))


def health(address: str, seconds: float = _SECONDS) -> dict[str, Any]:
    """What the process at one address says; {} where nothing answers, or not to the end, or something else does."""
    try:
        found = _read(address, seconds)
    except (OSError, HTTPException, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def metrics(address: str, seconds: float = _SECONDS) -> str:
    """What the process at one address exposes for Prometheus; "" where nothing answers, or not to the end."""
    try:
        with urlopen(f"http://{address}/metrics", timeout=seconds) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException):
        return ""


def _read(address: str, seconds: float) -> Any:
    try:
        with urlopen(f"http://{address}/healthz", timeout=seconds) as answer:
            return json.load(answer)
    except HTTPError as unwell:  # 503 comes with the reason
        return json.load(unwell)


def _ask(address: str, mark: str) -> Answer:
    try:
        found = _read(address, _SECONDS)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Answer(address, None, f"does not answer ({getattr(reason, 'strerror', None) or reason})")
    except ValueError:
        found = None
    if not isinstance(found, dict) or mark not in found:
        return Answer(address, None, f"is something else: its /healthz has no `{mark}`")
    return Answer(address, found)
