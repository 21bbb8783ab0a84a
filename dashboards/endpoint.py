"""The HTTP endpoint of a worker or sink: `/metrics` for Prometheus, `/healthz` for supervisors and load balancers."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self

from prometheus_client.exposition import choose_encoder

from flyback import metrics
from flyback.errors import ConfigurationError
from flyback.settings import Settings

Health = Callable[[], dict[str, object]]


class Endpoint:
    """A running endpoint; `port` is the port it really has. Ends by `close` or as a context manager."""

    def __init__(self, server: socketserver.BaseServer, port: int) -> None:
        self.port = port
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="endpoint", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; answers under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(settings: Settings, port: int, health: Health) -> Endpoint:
    """Serve on FLYBACK_HTTP_HOST and this port (0: any free one) from a thread of its own.

    `/healthz` answers `health()` as JSON, with 200 where its `ok` is true and 503 where not. `health` is called
    from other threads. Raises ConfigurationError naming the variables where the address cannot be bound.
    """

    class Handler(_Handler):
        answer_health = staticmethod(health)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news, and must not print a traceback."""

    try:
        server = Server((settings.http_host, port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"{_variable(settings, port)}: cannot serve health and metrics on {settings.http_host}:{port}: "
            f"{error.strerror}; set another port (0: any free one) or FLYBACK_HTTP_HOST"
        ) from error
    return Endpoint(server, server.server_address[1])


def _variable(settings: Settings, port: int) -> str:
    ports = {
        "FLYBACK_WORKER_HTTP_PORT": settings.worker_http_port,
        "FLYBACK_SINK_HTTP_PORT": settings.sink_http_port,
    }
    return " or ".join(name for name, given in ports.items() if given == port) or "port"


class _Handler(BaseHTTPRequestHandler):
    answer_health: Health
    server_version = "flyback"
    sys_version = ""
    timeout = 10  # a client that sends nothing

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, content_type, encode(metrics.REGISTRY))
            case "/healthz":
                try:
                    found = self.answer_health()
                except Exception as error:  # whatever is wrong, the supervisor must get an answer
                    found = {"ok": False, "error": type(error).__name__}
                status = HTTPStatus.OK if found.get("ok") else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "application/json", json.dumps(found, default=str).encode())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics and /healthz\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a log line for each probe helps nobody."""

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
