"""The page's files: our own, and uPlot, which draws the charts. Nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    tag: str
    """Weak: the file goes out compressed as well, and is the same one then."""


class Assets:
    """Every file that may be asked for, by name, as it was at the start.

    Raises ConfigurationError where uPlot is not installed.
    """

    def __init__(self, web: Path = WEB) -> None:
        try:
            # not imported: the package draws in notebooks
            plot = distribution("uplot-python")
        except PackageNotFoundError as error:
            raise ConfigurationError("the page's charts need uPlot: `pip install 'flyback[dashboard]'`") from error
        files = {file.name: file for file in sorted(web.iterdir()) if file.suffix in _TYPES}
        files |= {name: Path(str(plot.locate_file(f"uplot/static/{file}"))) for name, file in _UPLOT.items()}
        self._files = {name: _read(file) for name, file in files.items()}

    def answer(self, name: str, request: Request) -> Response:
        """The file, 304 where the browser has it, 404 where there is none."""
        file = self._files.get(name)
        if file is None:
            return Response("no such file\n", 404, media_type="text/plain")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}  # asked for again each time, seldom sent again
        if _has(request.headers.get("if-none-match", ""), file.tag):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)


def _read(file: Path) -> _File:
    body = file.read_bytes()
    return _File(body, _TYPES[file.suffix], f'W/"{hashlib.sha256(body).hexdigest()[:24]}"')


def _has(known: str, tag: str) -> bool:
    """Whether an If-None-Match header has the tag, compared weakly (RFC 9110, 13.1.2); our tags have no comma."""
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags
