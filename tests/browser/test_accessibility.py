"""For people with a keyboard, a screen reader, a phone, in the dark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.site import Site, counts
from tests.dashboards.sample_server import lake_of
from tests.sinks.events import correction, prediction, text

PHONE = {"width": 320, "height": 640}
WIDE = {"width": 1440, "height": 900}


@pytest.fixture
def full(site: Site) -> Site:
    """Something in every section."""
    for i, segment in enumerate(("tweets", "movies", "amazon", "nyt")):
        site.count(10 + i, {"segment": segment, "version": "3.3.2"}, counts(100, 50, 10 * i))
        site.count(5, {"segment": segment, "actor": "rater"}, counts(100, 50, i), kind="HUMAN")
    lake_of(Path(site.lake.path), site.now)
    return site


def serious(page: Page) -> list[Mapping[str, Any]]:
    found = Axe().run(page).response["violations"]
    return [
        {"rule": each["id"], "where": [node["target"] for node in each["nodes"]]}
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_serious(full: Site, open_page: OpenPage, scheme: str, size: dict[str, int]) -> None:
    page = open_page(full.url, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator(".failure").first).to_be_visible()
    expect(page.locator("#rows tr")).to_have_count(8)
    page.get_by_text("The chart as a table").click()
    assert serious(page) == []
    page.get_by_role("button", name="Failure rate: how is this computed?").click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Episode").first.click()
    expect(page.locator(".event").first).to_be_visible()
    assert serious(page) == []


def test_nothing_is_wider_than_a_small_phone(full: Site, open_page: OpenPage) -> None:
    page = open_page(full.url, viewport=PHONE)
    expect(page.locator(".failure").first).to_be_visible()
    expect(page.locator("#plot canvas")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.get_by_role("link", name="Episode").first.click()
    expect(page.locator(".event").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_the_keyboard_gets_everywhere_and_sees_where_it_is(full: Site, open_page: OpenPage) -> None:
    page = open_page(full.url)
    expect(page.locator("#rows tr")).to_have_count(8)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    focused = []
    while len(focused) < 100:
        page.keyboard.press("Tab")
        found = page.evaluate("""() => {
            const node = document.activeElement;
            if (node === document.body) return null;
            const name = node.getAttribute("aria-label") ?? node.textContent;
            return [name.trim(), getComputedStyle(node).outlineStyle !== "none"];
        }""")
        if found is None:  # past the last one, where the browser's own buttons are
            break
        focused.append(found)
    assert [name for name, seen in focused if not seen] == []
    names = [name for name, _ in focused]
    for wanted in ("Failure rate: how is this computed?", "CSV", "Predictions", "tweets"):
        assert wanted in names


def test_escape_closes_a_menu_and_gives_the_focus_back(full: Site, open_page: OpenPage) -> None:
    page = open_page(full.url)
    expect(page.locator("#rows tr")).to_have_count(8)
    summary = page.locator("#filters summary", has_text="Segment")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("amazon")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("amazon")).to_be_hidden()
    expect(summary).to_be_focused()


def test_a_choice_of_dark_or_light_lasts(full: Site, open_page: OpenPage) -> None:
    page = open_page(full.url, color_scheme="light")
    button = page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "false")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert dark == page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_an_episode_tells_the_story_in_the_order_in_which_it_happened(site: Site, open_page: OpenPage) -> None:
    at = int(site.now.timestamp() * 1_000_000)
    site.lake.add("predictions", prediction("a/b", occurred_at=at), prediction("a/b", "p2", occurred_at=at + 2_000_000))
    site.lake.add(
        "corrections", correction("a/b", output=text("the truth"), reason="sarcasm", occurred_at=at + 1_000_000)
    )
    page = open_page(f"{site.url}/episodes/a%2Fb")
    expect(page.locator(".event h2")).to_have_text(["Prediction", "Correction", "Prediction"])
    expect(page.locator("#summary")).to_have_text("2 predictions, 1 correction: it failed.")
    expect(page.locator(".event").nth(1)).to_contain_text("the truth")
    expect(page.locator(".event").nth(1)).to_contain_text("decides")


def test_a_task_that_the_lake_does_not_have_is_said(site: Site, open_page: OpenPage, complaints: list[str]) -> None:
    page = open_page(f"{site.url}/episodes/nothing")
    expect(page.locator("#summary")).to_contain_text("The lake has no event of this task.")
    assert all("404" in complaint for complaint in complaints)
    complaints.clear()
