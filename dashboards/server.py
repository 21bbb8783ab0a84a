"""The dashboard's process: the counts are followed, the page is served, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from flyback.dashboards.access import Access, Guard
from flyback.dashboards.app import build
from flyback.dashboards.board import Board, HealthCheck
from flyback.dashboards.feed import Feed
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.rate_store import RateStore
from flyback.errors import ConfigurationError
from flyback.logs import get_logger
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings

log = get_logger(__name__)

FORGET_SECONDS = 60.0
_BACKLOG = 1_024


class Server(uvicorn.Server):
    """uvicorn's, which also ends the event streams when it stops: those never end by themselves."""

    def __init__(self, app: FastAPI, access: Access) -> None:
        guarded: ASGIApp = Guard(app, access)
        super().__init__(
            uvicorn.Config(
                guarded,
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.live.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would end the process by the signal, once everything is over."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        yield

    def stop(self) -> None:
        """Serve nobody any more. From any thread."""
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket to serve on; port 0: any free one. Raises ConfigurationError naming the variables."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise ConfigurationError(
            f"cannot serve the dashboard on {host}:{port}: {error.strerror}; set another FLYBACK_DASHBOARD_PORT "
            "(0: any free one) or FLYBACK_DASHBOARD_HOST"
        ) from error
    return found


def run(
    settings: Settings, catalog: Catalog, access: Access, health: HealthCheck, opened: Callable[[str], None]
) -> None:
    """Serve on FLYBACK_DASHBOARD_HOST and _PORT until SIGTERM or SIGINT; `opened` is told the address.

    For the main thread. A Kafka or a lake that is not there is waited for. Raises ConfigurationError where it cannot
    listen there.
    """
    with listen(settings.dashboard_host, settings.dashboard_port) as at:
        store = RateStore()
        with Feed(settings, catalog, store) as feed:
            board = Board(store, LakeReader(settings.lake), lambda: feed.following, health)
            server = Server(build(board), access)
            log.info("dashboard starts", address=address(at), guarded=access.guarded, lake=settings.lake)
            opened(address(at))
            asyncio.run(_serve(server, store, at))
    log.info("dashboard stopped")


def address(at: socket.socket) -> str:
    """What to open."""
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve(server: Server, store: RateStore, at: socket.socket) -> None:
    forgetting = asyncio.create_task(_forget(store))
    await server.serve([at])
    forgetting.cancel()


async def _forget(store: RateStore) -> None:
    while True:
        await asyncio.sleep(FORGET_SECONDS)
        await asyncio.to_thread(store.forget, datetime.now(UTC))
