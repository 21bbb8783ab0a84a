"""A TCP proxy whose connections stall, break half-way through a message, or are slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flyback.local.kafka import KafkaBroker
from flyback.local.process import Startable, free_port

_CHUNK = 64 * 1024
_SLOW_CHUNK = 4 * 1024


@dataclass(frozen=True, eq=False)
class Line:
    """What happens to bytes on their way."""

    stalled: bool = False
    breaks_after: int | None = None
    """Bytes that a connection still passes on, both ways together; then it is closed."""
    bytes_per_second: float | None = None
    """Of each connection and direction."""
    delay: float = 0.0
    """Seconds that each piece is late."""


class _Closed(Exception):
    """The connection has ended, or must."""


class Connection:
    """A client's socket and the one to the server, passed on by a thread each way."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.seen: Line | None = None
        self.left = 0

    def close(self) -> None:
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
            except OSError:
                continue
            finally:
                end.close()


class Proxy(Startable):
    """Passes what comes to `port` of 127.0.0.1 on to `target`, another port of it.

    Changes count for connections that are open and for new ones. Safe to use from several threads.
    """

    def __init__(self, target: int, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.broken = 0
        """How many connections were closed half-way."""
        self.target = target
        self._line = Line()
        self._changed = threading.Condition()
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept, self._listener)

    def stop(self) -> None:
        """Close it and every connection through it."""
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.shutdown(socket.SHUT_RDWR)
            finally:
                listener.close()
        with self._changed:
            connections, self._connections = self._connections, set()
            self._changed.notify_all()
        for connection in connections:
            connection.close()

    def pass_on(self) -> None:
        """Do nothing to what passes."""
        self._set(Line())

    def stall(self) -> None:
        """Accept connections and bytes, and pass nothing on, until another change."""
        self._set(Line(stalled=True))

    def break_after(self, size: int) -> None:
        """Close each connection once it has passed `size` bytes on from now, wherever in a message that is."""
        self._set(Line(breaks_after=size))

    def slow_down(self, bytes_per_second: float, delay: float) -> None:
        """Pass every piece on `delay` seconds late, and no more of them than the bandwidth allows."""
        self._set(Line(bytes_per_second=bytes_per_second, delay=delay))

    def _set(self, line: Line) -> None:
        with self._changed:
            self._line = line
            self._changed.notify_all()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # as if the proxy were not there
                client.close()
                continue
            connection = Connection(client, server)
            with self._changed:
                if self._listener is not listener:  # stopped meanwhile: nobody else would close this one
                    connection.close()
                    return
                self._connections.add(connection)
            self._run(self._pump, connection, client, server)
            self._run(self._pump, connection, server, client)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name="proxy", daemon=True).start()

    def _pump(self, connection: Connection, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._pass(connection, target, data)
        except (OSError, _Closed):
            pass
        finally:
            with self._changed:
                self._connections.discard(connection)
            connection.close()

    def _pass(self, connection: Connection, target: socket.socket, data: bytes) -> None:
        while data:
            with self._changed:
                self._changed.wait_for(lambda: connection not in self._connections or not self._line.stalled)
                line = self._line
                size, ends = self._allowed(connection, line, len(data))
            if line.bytes_per_second is not None:
                time.sleep(line.delay + size / line.bytes_per_second)
            target.sendall(data[:size])
            data = data[size:]
            if ends:
                raise _Closed

    def _allowed(self, connection: Connection, line: Line, size: int) -> tuple[int, bool]:
        """How many of `size` bytes may pass now, and whether the connection ends with them."""
        if connection not in self._connections:
            raise _Closed
        if line.bytes_per_second is not None:
            return min(size, _SLOW_CHUNK), False
        if line.breaks_after is None:
            return size, False
        if connection.seen is not line:
            connection.seen, connection.left = line, line.breaks_after
        size = min(size, connection.left)
        connection.left -= size
        if connection.left == 0:
            self.broken += 1
            self._connections.discard(connection)
        return size, connection.left == 0


class KafkaBehind(KafkaBroker):
    """A broker with one more listener, which it advertises at the port of the proxy before it."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        super().__init__(folder)
        self.proxy = proxy

    def _server_properties(self) -> dict[str, str]:
        found = super()._server_properties()
        listeners = found["listeners"]
        public = ",".join(one for one in listeners.split(",") if not one.startswith("CONTROLLER"))
        return {
            **found,
            "listeners": f"{listeners},PROXIED://127.0.0.1:{self.proxy.target}",
            "advertised.listeners": f"{public},PROXIED://127.0.0.1:{self.proxy.port}",
            "listener.security.protocol.map": f"{found['listener.security.protocol.map']},PROXIED:PLAINTEXT",
        }
