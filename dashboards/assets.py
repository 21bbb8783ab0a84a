"""The page's files: our own, and uPlot, which draws the charts. Nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from flyback.errors import ConfigurationError

WEB = Path(__file__).with_name("web")
PAGE, EPISODE_PAGE = "index.html", "episode.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_UPLOT = {"uPlot.js": "uPlot.iife.js", "uPlot.css": "uPlot.min.css"}


class Assets:
    """Every file that may be asked for, by name. Raises ConfigurationError where uPlot is not installed."""

    def __init__(self, web: Path = WEB) -> None:
        try:
            # not imported: the package draws in notebooks
            plot = distribution("uplot-python")
        except PackageNotFoundError as error:
            raise ConfigurationError("the page's charts need uPlot: `pip install 'flyback[dashboard]'`") from error
        self._files = {file.name: file for file in sorted(web.iterdir()) if file.suffix in _TYPES}
        self._files |= {name: Path(str(plot.locate_file(f"uplot/static/{file}"))) for name, file in _UPLOT.items()}

    def answer(self, name: str, request: Request) -> Response:
        """The file, 304 where the browser has it, 404 where there is none."""
        file = self._files.get(name)
        if file is None:
            return Response("no such file\n", 404, media_type="text/plain")
        body = file.read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}  # asked for again each time, seldom sent again
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_TYPES[file.suffix])
