"""The page over a real Kafka, worker, sink and dashboard: what is corrected now shows, and equals what DuckDB says."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import expect

from flyback import Client, human, model
from flyback.local.process import ChildProcess, free_port
from flyback.sinks.lake import lake
from tests.browser.conftest import OpenPage, texts
from tests.end_to_end.conftest import StartSite, start_site  # noqa: F401
from tests.end_to_end.site import SECONDS
from tests.processes import running_in
from tests.waiting import eventually


def test_a_correction_sent_now_shows_and_equals_the_lake(
    start_site: StartSite,  # noqa: F811
    open_page: OpenPage,
    tmp_path: Path,
) -> None:
    site = start_site()
    worker, sink = site.start_worker(), site.start_sink()
    for service in (worker, sink):
        service.wait_ready()
    port = free_port()
    environment = site.environment(
        FLYBACK_WORKER_HTTP_PORT=str(worker.port),
        FLYBACK_SINK_HTTP_PORT=str(sink.port),
        FLYBACK_DASHBOARD_PORT=str(port),
    )
    command = [sys.executable, "-m", "flyback", "dashboard"]
    log = tmp_path / "dashboard.log"
    with (
        ChildProcess("dashboard", command, log, env=environment, cwd=tmp_path) as dashboard,
        Client(site.settings) as client,
    ):
        eventually(lambda: f":{port}" in log.read_text() if log.exists() else False, "the dashboard listens", SECONDS)
        assert dashboard.running
        made = datetime.now(UTC) - timedelta(minutes=2)
        answers = [
            client.predict(
                task_id=f"t/{i}", actor=model("m", f"{i % 2}"), input="x", output="a", segment="s", occurred_at=made
            )
            for i in range(10)
        ]
        assert client.flush(SECONDS) == 0
        page = open_page(f"http://127.0.0.1:{port}/")
        expect(page.locator("#stat-predictions .figure")).to_have_text("10")
        for i, answer in enumerate(answers[:6]):
            if i < 3:
                client.correct(answer, output="b", author=human("ann"), reason="not a", sampling_probability=0.5)
            else:
                client.confirm(answer, author=human("ann"), sampling_probability=0.25)
        assert client.flush(SECONDS) == 0
        expect(page.locator("#stat-failures .figure")).to_have_text("3")
        expect(page.locator("#stat-reviewed .figure")).to_have_text("6")
        expect(page.locator(".failure")).to_have_count(3)
        expect(page.locator(".failure .reason").first).to_have_text("not a")

        site.until_landed()
        page.get_by_role("button", name="Failure rate: how is this computed?").click()
        query = page.locator("#explain-sql").inner_text()
        with lake(site.settings.lake) as tables:
            for source in ("failure_rates", "failure_rates_exact"):
                [row] = tables.sql(query.replace("FROM failure_rates", f"FROM {source}")).fetchall()
                assert tuple(map(int, row[:3])) == (10, 6, 3)
        page.keyboard.press("Escape")
        assert texts(page, "#stat-rate .figure") == ["50.0%"]
        assert texts(page, "#stat-weighted .figure") == ["33.3%"]  # 3 · 2 of 3 · 2 + 3 · 4

        page.get_by_role("link", name="Episode").first.click()
        expect(page.locator(".event h2")).to_have_text(["Prediction", "Correction"])
    site.close()
    assert running_in(tmp_path) == {}
