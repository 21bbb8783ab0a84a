"""Loading, live, stale, waiting, disconnected, empty and refused are told apart."""

from __future__ import annotations

import time

from playwright.sync_api import expect

from flyback.dashboards.feed import Following
from tests.browser.conftest import OpenPage
from tests.browser.site import Site, counts


def test_while_it_loads_the_page_says_how_far(site: Site, open_page: OpenPage) -> None:
    site.follow(Following("loading", 1_200, 80_000))
    page = open_page(site.url)
    expect(page.locator("#state")).to_contain_text("Loading 1,200 of 80,000 records read; not all is counted yet")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "1200")
    site.follow(None)
    expect(page.locator("#state-name")).to_have_text("Live")
    expect(page.locator("#progress")).to_be_hidden()


def test_what_kafka_is_waited_for_is_said(site: Site, open_page: OpenPage) -> None:
    site.follow(Following("waiting", error="no topic flyback.failure-rates.v1: type `flyback topics create`"))
    page = open_page(site.url)
    expect(page.locator("#state")).to_contain_text("Waiting no topic flyback.failure-rates.v1")
    expect(page.locator("#announce")).to_contain_text("type `flyback topics create`")


def test_numbers_that_are_old_are_called_stale(site: Site, open_page: OpenPage) -> None:
    site.follow(Following("live", 10, 10, at=time.monotonic() - 90))
    expect(open_page(site.url).locator("#state")).to_contain_text("Stale no news for")


def test_a_server_that_is_gone_is_said_and_found_again(site: Site, open_page: OpenPage, complaints: list[str]) -> None:
    site.count(5, {}, counts(10, 10, 5))
    page = open_page(site.url)
    expect(page.locator("#state-name")).to_have_text("Live")
    expect(page.locator("#stat-failures .figure")).to_have_text("5")
    site.stop()
    expect(page.locator("#state")).to_contain_text("Disconnected Trying again… What is shown is of")
    expect(page.get_by_role("status").first).to_have_text("Disconnected from the server")
    site.count(5, {}, counts(10, 10, 6))
    site.start()
    expect(page.locator("#state-name")).to_have_text("Live")
    expect(page.locator("#stat-failures .figure")).to_have_text("6")
    assert all("ERR_" in complaint for complaint in complaints)
    complaints.clear()  # the browser's own, of each attempt


def test_an_empty_range_says_what_to_do(site: Site, open_page: OpenPage) -> None:
    site.count(120, {}, counts(10, 10, 5))
    page = open_page(f"{site.url}/?segment=default")
    expect(page.get_by_role("heading", name="No predictions in this range yet")).to_be_visible()
    expect(page.locator("#chart")).to_be_hidden()
    page.locator("#empty").get_by_role("link", name="24 hours").click()
    expect(page.locator("#stat-predictions .figure")).to_have_text("10")
    expect(page.locator("#plot canvas")).to_be_visible()
    expect(page.locator("#empty")).to_be_hidden()


def test_predictions_that_nobody_reviewed_have_no_rate(site: Site, open_page: OpenPage) -> None:
    site.count(5, {}, counts(10, 0, 0))
    page = open_page(site.url)
    expect(page.locator("#verdict")).to_have_text(
        "10 predictions, none of them is reviewed yet: nothing can be said of failures."
    )
    expect(page.locator("#stat-rate .figure")).to_have_text("–")


def test_a_view_that_cannot_be_says_why_and_leads_out(site: Site, open_page: OpenPage, complaints: list[str]) -> None:
    page = open_page(f"{site.url}/?top=99")
    expect(page.locator("#refused-text")).to_have_text("top: a number from 1 to 20, not '99'")
    expect(page.locator("#state-name")).to_have_text("Refused")
    expect(page.locator("#figures")).to_be_hidden()
    page.get_by_role("link", name="Show the last hour").click()
    expect(page.locator("#state-name")).to_have_text("Live")
    assert all("422" in complaint for complaint in complaints)
    complaints.clear()


def test_people_who_listen_are_not_told_something_each_second(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.url)
    expect(page.locator("#announce")).to_have_text("Live")
    page.evaluate(
        """() => {
            window.said = 0;
            const count = () => { window.said += 1; };
            new MutationObserver(count).observe(
                document.getElementById("announce"), { childList: true, characterData: true, subtree: true });
        }"""
    )
    for _ in range(3):
        before = page.locator("#state-text").inner_text()
        expect(page.locator("#state-text")).not_to_have_text(before)
    assert page.evaluate("window.said") == 0
