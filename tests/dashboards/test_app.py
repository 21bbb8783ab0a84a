"""The routes of the dashboard, asked without a network; numbers and lake are made by hand."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.testclient import TestClient

from flyback.dashboards import documents
from flyback.dashboards.app import build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.questions import Question
from flyback.dashboards.view import PARAMETERS, View
from flyback.errors import BrokerError
from tests.dashboards.sample_server import HOSTILE, Sample, health, lake_of

SECONDS = 60.0
PARTS = {"headline", "chart", "table", "failures", "alerts", "health"}


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    found = Sample(datetime.now(UTC), minutes=130)
    yield found
    found.store.close()


@pytest.fixture(scope="module")
def client(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    made = lake_of(tmp_path_factory.mktemp("lake"), datetime.now(UTC))
    return TestClient(build(Board(sample.store, LakeReader(made.path), Following, health, SECONDS)))


def alone(sample: Sample, tmp_path: Path, **given: Any) -> TestClient:
    """With a lake that is not there."""
    board = Board(sample.store, LakeReader(str(tmp_path / "none")), Following, patience=SECONDS, **given)
    return TestClient(build(board))


def get(client: TestClient, path: str, status: int = 200) -> Any:
    found = client.get(path)
    assert found.status_code == status, found.text
    return found.json()


def test_a_view_has_all_parts(client: TestClient) -> None:
    found = get(client, "/api/v1/view?range=1h&by=segment,version&top=3&rate=weighted")
    assert set(found) == PARTS
    assert found["headline"]["latency"]["examples"] == 24
    assert 0 < found["headline"]["latency"]["p50"] < found["headline"]["latency"]["p99"] < 1
    assert len(found["chart"]["series"]) == 3
    assert {mark["kind"] for mark in found["chart"]["marks"]} == {"version", "alert"}
    assert len(found["table"]["rows"]) == 12
    assert len(found["failures"]["rows"]) == 20
    assert [alert["alert_id"] for alert in found["alerts"]["open"]] == ["a-1", "a-3"]
    assert set(found["alerts"]) == {"open", "recent"}
    assert found["health"]["verdict"] == "well"
    assert found["health"]["dead_letters"] == []


def test_the_page_and_its_files_are_here_and_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text)
    assert named
    for name in named:
        found = client.get(f"/{name}")
        assert found.status_code == 200, name
        tag = found.headers["ETag"]
        for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again = client.get(f"/{name}", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, "no-cache")
        assert client.get(f"/{name}", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get("/episodes/amazon/1").headers["Content-Type"] == "text/html; charset=utf-8"
    assert "uPlot" in client.get("/assets/uPlot.js").text


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2e%2e/app.py", "index.py", ""])
def test_no_other_file_can_be_had(client: TestClient, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404


def test_rates_are_those_of_the_question(client: TestClient, sample: Sample) -> None:
    found = get(client, "/api/v1/rates?by=segment,version&actor_kind=MODEL")
    since, until = (datetime.fromisoformat(found[name]) for name in ("since", "until"))
    asked = Question(since, until, ("segment", "version"), where={"actor_kind": ["MODEL"]})
    assert found["rates"] == [row.plain() for row in sample.store.ask(asked)]
    assert len(found["rates"]) == 8


def test_rates_can_be_had_as_csv(client: TestClient) -> None:
    plain = get(client, "/api/v1/rates?by=segment")["rates"]
    for found in (
        client.get("/api/v1/rates?by=segment&format=csv"),
        client.get("/api/v1/rates?by=segment", headers={"Accept": "text/csv"}),
    ):
        assert found.headers["Content-Type"].startswith("text/csv")
        lines = list(csv.DictReader(io.StringIO(found.text)))
        assert [line["segment"] for line in lines] == [row["segment"] for row in plain]
        assert [float(line["rate_low"]) for line in lines] == [row["rate"]["low"] for row in plain]
        assert [float(line["rate"]) for line in lines] == [row["rate"]["value"] for row in plain]


def test_a_label_is_no_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    found = alone(Sample(datetime.now(UTC), 5, {"=cmd|' /C calc'!A0": 0.5}), tmp_path)
    lines = list(csv.DictReader(io.StringIO(found.get("/api/v1/rates?format=csv").text)))
    assert [line["segment"] for line in lines] == ["'=cmd|' /C calc'!A0"]


def test_failures_go_on_where_they_ended(client: TestClient) -> None:
    first = get(client, "/api/v1/failures?limit=4&segment=amazon")
    rest = get(client, f"/api/v1/failures?segment=amazon&before={first['next']}")
    seen = [row["task_id"] for found in (first, rest) for row in found["rows"]]
    assert len(seen) == len(set(seen)) > 4
    assert {row["segment"] for row in first["rows"]} == {"amazon"}
    assert rest["next"] is None


def test_what_people_wrote_is_a_text_in_json(client: TestClient) -> None:
    found = client.get("/api/v1/failures", params={"segment": HOSTILE})
    assert {row["segment"] for row in found.json()["rows"]} == {HOSTILE}
    assert found.headers["Content-Type"] == "application/json"


def test_an_episode_is_found_by_its_task_whatever_that_looks_like(client: TestClient) -> None:
    found = get(client, "/api/v1/episodes/amazon/1")
    assert [event["kind"] for event in found["events"]] == ["prediction", "correction"]
    assert get(client, "/api/v1/episodes/amazon%2F1") == found
    assert get(client, "/api/v1/episodes/nobody's", 404) == {"error": "no such task in the lake (yet)"}


def test_alerts_and_health_can_be_asked_for_alone(client: TestClient) -> None:
    assert set(get(client, "/api/v1/alerts")) == {"open", "recent"}
    assert get(client, "/api/v1/health")["restoring"] == [{"partition": 2, "restored": 400, "to_restore": 1000}]


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("rates?range=2h", "range: one of now, 1h, 24h, 7d, not '2h'"),
        ("view?colour=red", "no parameter 'colour': there are range"),
        ("live?top=0", "top: a number from 1 to 20, not '0'"),
        ("rates?format=xml", "format: one of csv, json"),
        ("failures?limit=0", "limit: a number from 1 to 200"),
        ("failures?limit=many", "limit: Input should be a valid integer"),
        ("failures?before=x", "before: give the `next` of an earlier answer"),
    ],
)
def test_what_cannot_be_asked_is_told(client: TestClient, path: str, complaint: str) -> None:
    assert get(client, f"/api/v1/{path}", 422)["error"].startswith(complaint)


def test_what_is_not_there_is_told_as_json(client: TestClient) -> None:
    assert get(client, "/api/v2", 404) == {"error": "Not Found"}


def test_without_a_lake_the_numbers_are_there(sample: Sample, tmp_path: Path) -> None:
    found = get(alone(sample, tmp_path), "/api/v1/view")
    assert found["headline"]["predictions"] > 0
    assert found["headline"]["latency"] is None
    assert found["failures"]["rows"] == []
    assert found["alerts"] == {"open": [], "recent": []}


def test_a_lake_that_cannot_be_read_leaves_the_numbers(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "none" / "corrections" / "_delta_log").mkdir(parents=True)
    (tmp_path / "none" / "corrections" / "_delta_log" / f"{0:020}.json").write_text("garbage")
    found = get(alone(sample, tmp_path), "/api/v1/view")
    assert found["headline"]["predictions"] > 0
    for part in ("failures", "alerts", "health"):
        assert "corrections" in found[part]["error"], part
    assert "corrections" in get(alone(sample, tmp_path), "/api/v1/episodes/t", 503)["error"]


def test_an_unknown_health_is_told(sample: Sample, tmp_path: Path) -> None:
    def down() -> dict[str, Any]:
        raise BrokerError("no Kafka answers at 127.0.0.1:1")

    found = get(alone(sample, tmp_path, health=down), "/api/v1/health")
    assert (found["verdict"], found["problems"]) == ("unknown", ["no Kafka answers at 127.0.0.1:1"])
    assert get(alone(sample, tmp_path), "/api/v1/health")["verdict"] == "unknown"


def test_minutes_that_are_not_kept_any_more_are_asked_of_the_lake(sample: Sample, tmp_path: Path) -> None:
    found = get(alone(sample, tmp_path), "/api/v1/view?since=2020-01-01&until=2020-01-03")
    assert found["headline"]["predictions"] == 0
    assert found["chart"]["series"] == []
    assert get(alone(sample, tmp_path), "/api/v1/view?range=7d")["headline"]["before"]["predictions"] == 0


def test_the_live_parts_follow_the_counts(sample: Sample, tmp_path: Path) -> None:
    board = Board(sample.store, LakeReader(str(tmp_path / "none")), Following)
    now = datetime.now(UTC)
    before = json.loads(board.live(View(), now)["headline"])["predictions"]
    for _ in range(10):
        sample.more(now)
    after = json.loads(board.live(View(), now)["headline"])["predictions"]
    assert after > before
    assert board.live(View(), now)["table"] == board.live(View(), now)["table"]


def test_large_answers_are_compressed(client: TestClient) -> None:
    with client.stream("GET", "/api/v1/view", headers={"Accept-Encoding": "gzip"}) as found:
        assert found.headers["Content-Encoding"] == "gzip"
        assert set(json.loads(gzip.decompress(b"".join(found.iter_raw())))) == PARTS


def test_the_document_of_the_api_is_valid_and_names_every_route(client: TestClient) -> None:
    document = get(client, "/api/v1/openapi.json")
    validate(document)
    assert set(document["paths"]) == {
        f"/api/v1/{path}" for path in ("live", "view", "rates", "failures", "episodes/{task_id}", "alerts", "health")
    }


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("view", documents.Whole),
        ("rates?by=segment,actor", documents.Rates),
        ("failures", documents.Failures),
        ("episodes/amazon/4", documents.Episode),
        ("alerts", documents.Alerts),
        ("health", documents.Health),
    ],
)
def test_answers_are_as_the_document_says(client: TestClient, path: str, document: type[BaseModel]) -> None:
    document.model_validate(get(client, f"/api/v1/{path}"), strict=True)


def test_the_document_names_every_parameter_of_a_view(client: TestClient) -> None:
    paths = get(client, "/api/v1/openapi.json")["paths"]
    for path in ("view", "live", "rates", "failures"):
        named = {parameter["name"] for parameter in paths[f"/api/v1/{path}"]["get"]["parameters"]}
        assert set(PARAMETERS) <= named, path
    assert {"limit", "before"} <= {each["name"] for each in paths["/api/v1/failures"]["get"]["parameters"]}


def test_metrics_are_those_of_the_dashboard(client: TestClient) -> None:
    assert "flyback_dashboard_viewers" in client.get("/metrics").text
