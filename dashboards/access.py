"""Who may look: one place that every request passes, and that puts the security headers on every answer."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flyback.errors import ConfigurationError
from flyback.logs import get_logger
from flyback.settings import Settings

log = get_logger(__name__)

OPEN = ("/healthz",)
"""Paths that anybody may ask."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer. Besides them `Cache-Control: no-store`, where an answer does not say otherwise."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_CHALLENGE = 'Basic realm="flyback", charset="UTF-8"'


@dataclass(frozen=True, repr=False)
class Access:
    """What a request must bring. With neither a token nor a user anybody may look who can reach it.

    Then the name that a browser was given is looked at: any page could give this server a name of its own, and read it
    from the browser of somebody who can (DNS rebinding). `reach` says which names are well.
    """

    token: str | None = None
    user: str | None = None
    password: str | None = None
    reach: Literal["machine", "network"] = "machine"

    @classmethod
    def of(cls, settings: Settings, host: str, insecure: bool = False) -> Access:
        """As the settings say. Raises ConfigurationError where others could reach it and nothing keeps them out."""
        token, password = (
            None if secret is None else secret.get_secret_value()
            for secret in (settings.dashboard_token, settings.dashboard_password)
        )
        if (settings.dashboard_user is None) != (password is None):
            raise ConfigurationError("FLYBACK_DASHBOARD_USER and FLYBACK_DASHBOARD_PASSWORD belong together: set both")
        if token is not None or password is not None:
            return cls(token, settings.dashboard_user, password)
        if is_loopback(host):
            return cls()
        if not insecure:
            raise ConfigurationError(
                f"the dashboard shows what people wrote, and {host} can be reached by others: set "
                "FLYBACK_DASHBOARD_TOKEN, or FLYBACK_DASHBOARD_USER and FLYBACK_DASHBOARD_PASSWORD (or the variables "
                "with _FILE); --insecure lets everybody look"
            )
        return cls(reach="network")

    @property
    def guarded(self) -> bool:
        """Whether something must be known."""
        return self.token is not None or self.password is not None

    def allows(self, authorization: str) -> bool:
        """Whether this header is good enough: the token as a bearer token or as a password, or user and password."""
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer":
            return _same(self.token, given.strip())
        if kind.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        # each is compared, whatever became of the others
        known, fits, is_token = _same(self.user, user), _same(self.password, password), _same(self.token, password)
        return (known and fits) or is_token

    def misnamed(self, host: str) -> str | None:
        """What is wrong with a request to this `host[:port]`, None where nothing is."""
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.guarded or name.lower() in _LOOPBACK_NAMES:
            return None
        if self.reach == "machine":
            return f"not known by this name: open one of {', '.join(_LOOPBACK_NAMES)}, or set a token"
        # nobody else can give it one of these
        named = "." in name and not _is_address(name.strip("[]"))
        return "not known by this name: open it by its IP address, or set a token" if named or not name else None


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no web sockets: uvicorn is told so
            await self._app(scope, receive, send)
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        try:
            await answer(scope, receive, with_headers)
        except Exception as error:  # not logged with its trace: that may hold what people wrote
            log.error("a request failed", path=scope["path"], reason=type(error).__name__)
            if not begun:
                await _error(500, "something went wrong: see the dashboard's log")(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if scope["path"] in OPEN:
            return None
        if wrong := self._access.misnamed(headers.get("host", "")):
            return _error(421, wrong)
        # headers come as Latin-1, what people write in them is UTF-8
        given = headers.get("authorization", "").encode("latin-1").decode(errors="replace")
        if self._access.guarded and not self._access.allows(given):
            return _error(401, "give the token, or user and password", {"WWW-Authenticate": _CHALLENGE})
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


def _same(wanted: str | None, given: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest((wanted or "").encode(), given.encode()) and wanted is not None
