"""The dashboard's routes: the page, its live stream, and the same numbers as JSON and CSV."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from flyback import metrics
from flyback.dashboards import assets, csv_table, documents
from flyback.dashboards.assets import Assets
from flyback.dashboards.board import Board, encode, failures_of
from flyback.dashboards.lake_queries import Cursor
from flyback.dashboards.live import RETRY_SECONDS, Live, Viewer
from flyback.dashboards.parts import NotYet
from flyback.dashboards.view import parse
from flyback.errors import ConfigurationError, FlybackError

API = "/api/v1"
MOST_FAILURES = 200


class EventStream(StreamingResponse):
    """What one viewer is sent, until he goes."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer.frames(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._viewer = viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._viewer.leave()


def build(board: Board, files: Assets | None = None) -> FastAPI:
    """The application, not guarded yet: see `access.Guard`. `app.state.live` is its Live."""
    found = files or Assets()
    live = Live(board.live, lambda now: encode(board.status(now)))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ticking = asyncio.create_task(live.run())
        yield
        live.close()
        ticking.cancel()

    app = FastAPI(
        title="Flyback",
        version="1",
        description="Live failure rates. See docs/dashboard.md.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.live = live
    app.add_middleware(GZipMiddleware, minimum_size=1_000)

    @app.exception_handler(ConfigurationError)
    async def wrong(_: Request, error: ConfigurationError) -> Response:
        return answer({"error": str(error)}, 422)

    @app.exception_handler(FlybackError)
    async def failed(_: Request, error: FlybackError) -> Response:
        return answer({"error": str(error)}, 503, **{"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(NotYet)
    async def not_yet(_: Request, __: NotYet) -> Response:
        return answer({"error": "it took too long: try again"}, 503, **{"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return answer({"error": error.detail}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return answer({"error": "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())}, 422)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return found.answer(assets.PAGE, request)

    @app.get("/episodes/{task_id:path}", include_in_schema=False)
    def episode_page(request: Request) -> Response:
        return found.answer(assets.EPISODE_PAGE, request)

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str, request: Request) -> Response:
        return found.answer(name, request)

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> Response:
        return answer({"ok": True})

    @app.get("/metrics", include_in_schema=False)
    def measured(request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(metrics.REGISTRY), media_type=content_type)

    @app.get(
        f"{API}/live",
        response_class=StreamingResponse,
        openapi_extra=documents.of_view(),
        responses=documents.ERRORS | {200: {"content": {"text/event-stream": {}}}},
    )
    async def events(request: Request) -> Response:
        """The parts of a view as server-sent events: each when it changed, `status` each second."""
        return EventStream(live.join(parse(request.query_params.multi_items())))

    @app.get(f"{API}/view", openapi_extra=documents.of_view(), responses=documents.answers(documents.Whole))
    def view(request: Request) -> Response:
        """All parts of a view at once."""
        return answer(board.parts(parse(request.query_params.multi_items()), datetime.now(UTC)))

    @app.get(
        f"{API}/rates",
        openapi_extra=documents.of_view(documents.FORMAT),
        responses=documents.answers(documents.Rates, **{"text/csv": {}}),
    )
    def rates(request: Request) -> Response:
        """What `flyback rates --json` says; as CSV where that is asked for."""
        asked = [(name, value) for name, value in request.query_params.multi_items() if name != "format"]
        counted = board.rates(parse(asked), datetime.now(UTC))
        if csv_table.wanted(request):
            return csv_table.answer(counted["rates"], "rates.csv")
        return answer(counted)

    @app.get(f"{API}/failures", openapi_extra=documents.of_view(), responses=documents.answers(documents.Failures))
    def failures(request: Request, limit: int = 50, before: str | None = None) -> Response:
        """Predictions that failed, those first that were found to last. `before`: the `next` of an earlier answer."""
        if not 1 <= limit <= MOST_FAILURES:
            raise ConfigurationError(f"limit: a number from 1 to {MOST_FAILURES}")
        own = ("limit", "before")
        asked = parse((name, value) for name, value in request.query_params.multi_items() if name not in own)
        query = failures_of(asked, datetime.now(UTC), limit, Cursor.parse(before) if before else None)
        return answer(board.failures(query))

    @app.get(f"{API}/episodes/{{task_id:path}}", responses=documents.answers(documents.Episode))
    def episode(task_id: str) -> Response:
        """All events of one task in time order."""
        story = board.episode(task_id)
        return answer(story) if story else answer({"error": "no such task in the lake (yet)"}, 404)

    @app.get(f"{API}/alerts", responses=documents.answers(documents.Alerts))
    def alerts() -> Response:
        """Alerts that are open, and the newest that are over."""
        return answer(board.alerts())

    @app.get(f"{API}/health", responses=documents.answers(documents.Health))
    def health() -> Response:
        """How workers and sinks are."""
        return answer(board.health())

    return app


def answer(document: object, status: int = 200, **headers: str) -> Response:
    return Response(encode(document), status, headers, "application/json")
