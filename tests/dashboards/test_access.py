"""Who may look: every route is behind one guard, and every answer carries its headers."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.testclient import TestClient

from flyback import settings as configuration
from flyback.dashboards.access import HEADERS, OPEN, Access, Guard
from flyback.dashboards.app import build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.rate_store import RateStore
from flyback.errors import ConfigurationError

TOKEN = "wörd-of-mine"


def client(app: FastAPI, access: Access, base: str = "http://127.0.0.1:9466") -> TestClient:
    return TestClient(Guard(app, access), base_url=base, raise_server_exceptions=False)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    store = RateStore()
    yield build(Board(store, LakeReader(str(tmp_path / "lake")), Following))
    store.close()


def paths(app: FastAPI) -> list[str]:
    return [re.sub(r"\{.*?\}", "x", route.path) for route in app.routes if hasattr(route, "path")]


def test_every_route_but_the_open_one_wants_what_must_be_known(app: FastAPI) -> None:
    asked = client(app, Access(token=TOKEN))
    there = paths(app)
    assert {"/", "/assets/x", "/metrics", "/api/v1/live", "/api/v1/openapi.json", "/healthz"} <= set(there)
    assert len(there) >= 13
    for path in [*there, "/nowhere", "/healthz/../metrics", "//healthz", "/healthz/"]:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            found = asked.request(method, path)
            if path in OPEN:
                assert found.status_code != 401, path
            else:
                assert found.status_code == 401, (method, path)
                assert found.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, True),
        ({"Authorization": f"bearer  {TOKEN} "}, True),
        (basic("anybody", TOKEN), True),
        (basic("ann", "swordfish"), True),
        (basic("ann", "sword:fish"), False),
        (basic("bob", "swordfish"), False),
        (basic("ann", ""), False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": f"Bearer {TOKEN}x"}, False),
        ({"Authorization": "Bearer swordfish"}, False),
        ({"Authorization": "Basic ann:swordfish"}, False),
        ({"Authorization": "Basic /w=="}, False),
        ({"Authorization": f"Digest {TOKEN}"}, False),
        ({}, False),
    ],
)
def test_token_or_user_and_password_open_it(app: FastAPI, given: dict[str, str], allowed: bool) -> None:
    headers = {name: value.encode() for name, value in given.items()}
    found = client(app, Access(TOKEN, "ann", "swordfish")).get("/metrics", headers=headers)  # type: ignore[arg-type]
    assert found.status_code == (200 if allowed else 401)


def test_neither_a_missing_user_nor_a_missing_token_is_an_empty_one() -> None:
    assert not Access(token=TOKEN).allows(basic("", "")["Authorization"])
    assert not Access(user="ann", password="p").allows("Bearer ")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_on_loopback_it_is_known_by_the_names_of_this_machine(app: FastAPI, name: str) -> None:
    access = Access.of(configuration.load(), "127.0.0.1")
    for host in (name, f"{name}:9466"):
        assert client(app, access).get("/metrics", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9466", "localhost.evil.example", "10.0.0.7:9466", ""])
def test_a_page_from_elsewhere_cannot_read_it_by_a_name_of_its_own(app: FastAPI, host: str) -> None:
    access = Access.of(configuration.load(), "127.0.0.1")
    found = client(app, access).get("/api/v1/rates", headers={"Host": host})
    assert found.status_code == 421
    assert "open one of localhost" in found.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.0.0.7:9466", 200),
        ("[fe80::1]:9466", 200),
        ("dashboard:9466", 200),
        ("localhost", 200),
        ("evil.example:9466", 421),
        ("10.0.0.7.evil.example", 421),
        ("", 421),
    ],
)
def test_open_to_all_it_is_known_by_addresses_and_names_that_only_this_network_can_give(
    app: FastAPI, host: str, status: int
) -> None:
    access = Access.of(configuration.load(), "0.0.0.0", insecure=True)
    assert client(app, access).get("/metrics", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_elsewhere_it_does_not_start_without_a_secret(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set FLYBACK_DASHBOARD_TOKEN, or FLYBACK_DASHBOARD_USER"):
        Access.of(configuration.load(), host)
    assert not Access.of(configuration.load(), host, insecure=True).guarded
    monkeypatch.setenv("FLYBACK_DASHBOARD_TOKEN", TOKEN)
    assert Access.of(configuration.load(), host, insecure=True).guarded, "what is set holds"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_it_starts_as_it_is(host: str) -> None:
    assert Access.of(configuration.load(), host) == Access(reach="machine")


def test_secrets_may_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("token", "password"):
        (tmp_path / name).write_text(f"{name} of mine\n", encoding="utf-8")
        monkeypatch.setenv(f"FLYBACK_DASHBOARD_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("FLYBACK_DASHBOARD_USER", "ann")
    found = Access.of(configuration.load(), "0.0.0.0")
    assert (found.token, found.user, found.password) == ("token of mine", "ann", "password of mine")
    assert "of mine" not in repr(found)


@pytest.mark.parametrize("name", ["USER", "PASSWORD"])
def test_a_user_without_a_password_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FLYBACK_DASHBOARD_{name}", "ann")
    with pytest.raises(ConfigurationError, match="belong together"):
        Access.of(configuration.load(), "127.0.0.1")


def test_every_answer_has_the_security_headers(app: FastAPI) -> None:
    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("what people wrote")

    open_to_all, guarded = client(app, Access()), client(app, Access(token=TOKEN))
    answers: list[Any] = [open_to_all.get(path) for path in ("/", "/metrics", "/nowhere", "/api/v1/rates?range=x")]
    answers += [guarded.get("/"), guarded.get("/healthz"), open_to_all.post("/"), open_to_all.get("/breaks")]
    assert {found.status_code for found in answers} >= {200, 401, 404, 405, 422, 500}
    for found in answers:
        assert {name: found.headers.get(name) for name in HEADERS} == HEADERS, found.url
        is_page = found.url.path == "/" and found.is_success
        assert found.headers["Cache-Control"] == ("no-cache" if is_page else "no-store")


def test_what_breaks_says_nothing_of_its_content(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("what people wrote")

    found = client(app, Access()).get("/breaks")
    assert "wrote" not in found.text
    assert "wrote" not in caplog.text


def test_what_breaks_in_the_middle_is_broken_off(app: FastAPI) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await Response("x", headers={"Content-Length": "5"})(scope, receive, send)
        raise RuntimeError

    found = client(half, Access()).get("/")  # type: ignore[arg-type]
    assert found.text == "x"


def test_the_policy_lets_the_page_load_from_here_only() -> None:
    sources = set(re.findall(r"'[^']+'|\bhttps?:\S*|\*|data:", HEADERS["Content-Security-Policy"]))
    assert sources == {"'none'", "'self'", "data:"}
