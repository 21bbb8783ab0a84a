"""Clients that end with their test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest

from flyback import Client


class MakeClient(Protocol):
    def __call__(self, **given: Any) -> Client: ...


@pytest.fixture
def dead_address() -> Iterator[str]:
    """host:port where nobody answers for as long as the test runs: bound, but not listened on."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def make_client(dead_address: str) -> Iterator[MakeClient]:
    """Makes clients, without a broker unless `bootstrap_servers` is given."""
    made: list[Client] = []

    def make(**given: Any) -> Client:
        made.append(Client(**{"bootstrap_servers": dead_address, **given}))
        return made[-1]

    yield make
    for client in made:
        client.close(timeout=0)
