"""An address that refuses connections until it is opened, then passes every byte on to a real server."""

from __future__ import annotations

import socket
from threading import Thread
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class Forwarding:
    """`url` is the target's with another port: bound at once, listened on after `open`."""

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        assert target.hostname and target.port
        self._target = (target.hostname, target.port)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = urlunsplit(target._replace(netloc=address))

    def __enter__(self) -> Forwarding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
            except OSError:
                continue
            finally:
                one.close()

    def open(self) -> None:
        self._listener.listen()
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection(self._target)
            self._connections += [here, there]
            Thread(target=self._pass_on, args=(here, there), daemon=True).start()
            Thread(target=self._pass_on, args=(there, here), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return
