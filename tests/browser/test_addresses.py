"""Every view has its own address, and every control is one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage, texts
from tests.browser.site import Site, counts


@pytest.fixture
def counted(site: Site) -> Site:
    """Two versions in two segments, and one long ago."""
    site.count(5, {"segment": "tweets", "version": "3.3.2"}, counts(100, 50, 10))
    site.count(5, {"segment": "tweets", "version": "3.4.0"}, counts(100, 50, 5))
    site.count(5, {"segment": "nyt", "version": "3.4.0"}, counts(10, 10, 5))
    site.count(300, {"segment": "old", "version": "3.3.2"}, counts(1_000, 10, 5))
    return site


def test_a_range_is_an_address_and_back_leads_back(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#stat-predictions .figure")).to_have_text("210")
    page.get_by_role("link", name="24 h").click()
    expect(page).to_have_url(f"{counted.url}/?range=24h")
    expect(page.locator("#stat-predictions .figure")).to_have_text("1,210")
    expect(page.get_by_role("link", name="24 h")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page).to_have_url(f"{counted.url}/")
    expect(page.locator("#stat-predictions .figure")).to_have_text("210")
    page.go_forward()
    expect(page.locator("#stat-predictions .figure")).to_have_text("1,210")


def test_an_address_shows_its_view(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?range=24h&by=version&segment=tweets&rate=weighted&sort=version.asc")
    expect(page.locator("#stat-predictions .figure")).to_have_text("200")
    expect(page.get_by_role("button", name="Version", exact=True).first).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#filters summary").first).to_have_text("Segment: tweets")
    expect(page.locator("th[data-column=version]")).to_have_attribute("aria-sort", "ascending")
    assert texts(page, "#rows [data-column=version]") == ["3.3.2", "3.4.0"]


def test_two_versions_are_compared_by_two_lines(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    expect(page.locator("#rows tr")).to_have_count(3)
    page.locator("#filters summary", has_text="Version").click()
    page.get_by_label("3.3.2").check()
    page.get_by_label("3.4.0").check()
    page.locator("#by").get_by_role("button", name="Version").click()
    page.locator("#by").get_by_role("button", name="Segment").click()
    expect(page).to_have_url(f"{counted.url}/?by=version&version=3.3.2&version=3.4.0")
    expect(page.locator("#legend .name")).to_have_text(["3.3.2", "3.4.0"])


def test_a_filter_offers_what_the_range_has_and_keeps_what_was_chosen(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?segment=tweets&segment=gone")
    expect(page.locator("#rows tr")).to_have_count(2)
    menu = page.locator("#filters .menu").first
    expect(menu.locator("summary")).to_have_text("Segment: 2")
    menu.locator("summary").click()
    options = menu.locator("label")
    expect(options).to_have_text(["gone none here", "nyt 10", "tweets 200"])
    options.filter(has_text="gone").get_by_role("checkbox").uncheck()
    expect(page).to_have_url(f"{counted.url}/?segment=tweets")
    expect(options).to_have_count(3)
    expect(options.filter(has_text="gone").get_by_role("checkbox")).to_be_focused()
    page.keyboard.press("Escape")
    expect(options).to_have_count(2)
    menu.locator("summary").click()
    options.filter(has_text="nyt").get_by_role("checkbox").check()
    expect(page).to_have_url(f"{counted.url}/?segment=tweets&segment=nyt")
    expect(page.locator("#stat-predictions .figure")).to_have_text("210")


def test_an_empty_label_is_one_to_filter_by(counted: Site, open_page: OpenPage) -> None:
    counted.count(5, {"segment": "tweets", "actor": "ann"}, counts(7, 7, 1), kind="HUMAN")
    page = open_page(counted.url)
    page.locator("#rows").get_by_role("link", name="(none)").click()
    expect(page).to_have_url(f"{counted.url}/?version=")
    expect(page.locator("#stat-predictions .figure")).to_have_text("7")
    expect(page.locator("#filters summary").nth(1)).to_have_text("Version: (none)")


def test_a_name_in_the_table_leads_to_its_own_view(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?range=24h")
    page.locator("#rows").get_by_role("link", name="old").click()
    expect(page).to_have_url(f"{counted.url}/?range=24h&segment=old")
    expect(page.locator("#stat-predictions .figure")).to_have_text("1,000")
    page.get_by_role("link", name="Clear filters").click()
    expect(page).to_have_url(f"{counted.url}/?range=24h")


def test_what_is_typed_finds_rows_and_lines(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    page.get_by_role("searchbox").fill("nY")
    expect(page).to_have_url(f"{counted.url}/?find=nY")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#legend li")).to_have_count(1)


def test_a_range_can_be_chosen(counted: Site, open_page: OpenPage) -> None:
    page = open_page(counted.url)
    page.get_by_text("Chosen…").click()
    page.get_by_role("textbox", name="From").fill("2026-01-02T03:04")
    page.get_by_role("textbox", name="Until").fill("2026-01-02T04:04")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?since=2026-01-02T03%3A04%3A00.000Z&until=2026-01-02T04%3A04%3A00.000Z$"))
    expect(page.locator("#chosen summary")).to_contain_text("03:04 to 04:04")
    expect(page.locator("#empty")).to_be_visible()


def test_what_is_no_parameter_of_the_page_is_not_asked_for(counted: Site, open_page: OpenPage) -> None:
    page = open_page(f"{counted.url}/?utm_source=mail&segment=nyt")
    expect(page.locator("#stat-predictions .figure")).to_have_text("10")
