"""The proxy: what passes, what stalls, where a connection breaks, and what is slow."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from flyback.local.process import listens
from tests.chaos.proxy import Proxy
from tests.waiting import eventually

SECONDS = 20.0


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with closing(Echo()) as echo, Proxy(echo.port) as found:
        yield found


def connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port))
    client.settimeout(SECONDS)
    return client


def received(client: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection ended."""
    found = b""
    try:
        while len(found) < size and (data := client.recv(65_536)):
            found += data
    except ConnectionError:
        pass
    return found


def test_bytes_pass_both_ways_unchanged(proxy: Proxy) -> None:
    content = os.urandom(1_000_000)
    with connect(proxy) as client:
        threading.Thread(target=client.sendall, args=(content,), daemon=True).start()
        assert received(client, len(content)) == content


def test_a_stalled_connection_holds_everything_back_and_loses_nothing(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"before")
        assert received(client, 6) == b"before"
        proxy.stall()
        client.sendall(b"after")
        with connect(proxy) as another:
            another.sendall(b"new")
            for waiting in (client, another):
                waiting.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
                waiting.settimeout(SECONDS)
            proxy.pass_on()
            assert received(client, 5) == b"after"
            assert received(another, 3) == b"new"


def test_a_connection_breaks_after_exactly_so_many_bytes(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"12345")
        assert received(client, 5) == b"12345"
        proxy.break_after(7)  # five on their way to the server, two on their way back
        client.sendall(b"abcde")
        assert received(client, 5) == b"ab"
    assert proxy.broken == 1
    with connect(proxy) as client:
        client.sendall(b"0123456789")
        assert received(client, 1) == b""
    assert proxy.broken == 2
    proxy.pass_on()
    with connect(proxy) as client:
        client.sendall(b"again")
        assert received(client, 5) == b"again"


def test_a_slow_connection_passes_everything_on_late(proxy: Proxy) -> None:
    proxy.slow_down(bytes_per_second=100_000, delay=0.01)
    content = os.urandom(10_000)
    with connect(proxy) as client:
        began = time.monotonic()
        client.sendall(content)
        assert received(client, len(content)) == content
        assert time.monotonic() - began >= 0.1


def test_without_a_server_connections_are_refused_or_closed_at_once() -> None:
    with closing(Echo()) as echo:
        port = echo.port
    with Proxy(port) as proxy, connect(proxy) as client:
        assert received(client, 1) == b""


def test_a_stopped_proxy_ends_its_connections_and_frees_its_port(proxy: Proxy) -> None:
    proxy.stall()
    with connect(proxy) as client:
        client.sendall(b"held")
        proxy.stop()
        assert received(client, 1) == b""
    eventually(lambda: not listens(proxy.port), "nothing listens any more")


def test_a_connection_that_is_being_made_while_the_proxy_stops_is_ended(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stopped = threading.Event(), threading.Event()
    create = socket.create_connection

    def late(address: tuple[str, int]) -> socket.socket:
        begun.set()
        stopped.wait(SECONDS)
        return create(address)

    monkeypatch.setattr(socket, "create_connection", late)
    with socket.socket() as client:
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", proxy.port))
        assert begun.wait(SECONDS)
        proxy.stop()
        stopped.set()
        assert received(client, 1) == b""
