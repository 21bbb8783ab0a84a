"""The HTTP endpoint of worker and sink, asked over HTTP."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from pathlib import Path

import pytest

from flyback import metrics
from flyback.dashboards.endpoint import Endpoint, serve
from flyback.errors import ConfigurationError
from flyback.local.process import listens
from flyback.settings import Settings


def get(endpoint: Endpoint, path: str, **headers: str) -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_in_prometheus_text_format() -> None:
    metrics.WAITS.labels("lake").inc()
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        status, content_type, body = get(endpoint, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert 'flyback_waits_total{cause="lake"}' in body


def test_metrics_are_served_in_the_format_that_is_asked_for() -> None:
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        status, content_type, body = get(endpoint, "/metrics", Accept="application/openmetrics-text")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_health_is_json_and_its_status_says_whether_all_is_well(ok: bool, status: int) -> None:
    found = {"ok": ok, "assigned": [0, 1], "where": Path("state")}
    with serve(Settings(), 0, lambda: found) as endpoint:
        answer = get(endpoint, "/healthz?verbose")
    assert answer[0] == status
    assert answer[1] == "application/json"
    assert json.loads(answer[2]) == {"ok": ok, "assigned": [0, 1], "where": "state"}


def test_a_health_check_that_fails_is_an_unhealthy_answer() -> None:
    def broken() -> dict[str, object]:
        raise KeyError("password in here")

    with serve(Settings(), 0, broken) as endpoint:
        status, _, body = get(endpoint, "/healthz")
    assert status == 503
    assert json.loads(body) == {"ok": False, "error": "KeyError"}


def test_another_path_says_which_there_are() -> None:
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        status, _, body = get(endpoint, "/")
    assert status == 404
    assert "/metrics" in body
    assert "/healthz" in body


def test_the_port_is_free_again_after_close_and_can_be_given() -> None:
    endpoint = serve(Settings(), 0, lambda: {"ok": True})
    assert listens(endpoint.port)
    endpoint.close()
    assert not listens(endpoint.port)
    with serve(Settings(), endpoint.port, lambda: {"ok": True}) as again:
        assert again.port == endpoint.port
        assert get(again, "/healthz")[0] == 200


def test_a_client_that_says_nothing_holds_nobody_up() -> None:
    with (
        serve(Settings(), 0, lambda: {"ok": True}) as endpoint,
        socket.create_connection(("127.0.0.1", endpoint.port)),
    ):
        assert get(endpoint, "/healthz")[0] == 200


def test_a_client_that_hangs_up_is_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        with socket.create_connection(("127.0.0.1", endpoint.port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert get(endpoint, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_refused_by_the_name_of_its_variable() -> None:
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        settings = Settings(worker_http_port=endpoint.port)
        with pytest.raises(ConfigurationError, match=rf"FLYBACK_WORKER_HTTP_PORT: .*127\.0\.0\.1:{endpoint.port}"):
            serve(settings, endpoint.port, lambda: {"ok": True})


def test_an_address_that_is_not_ours_is_refused() -> None:
    settings = Settings(http_host="192.0.2.1", sink_http_port=0)
    with pytest.raises(ConfigurationError, match="FLYBACK_HTTP_HOST"):
        serve(settings, 0, lambda: {"ok": True})
