"""A real browser and a real dashboard. Whatever a page complains of fails its test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.browser import chromium
from tests.browser.site import Site
from tests.conftest import ENVIRONMENT

SECONDS = 60.0
OpenPage = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all of these tests, and closed after them: while it runs no other event loop may."""
    expect.set_options(timeout=1000 * SECONDS)
    with chromium.running(ENVIRONMENT) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dashboard without any numbers yet."""
    with Site(tmp_path) as found:
        yield found


@pytest.fixture
def complaints() -> list[str]:
    """What pages wrote to the console. A test that expects some takes them out."""
    return []


@pytest.fixture
def open_page(browser: Browser, complaints: list[str]) -> Iterator[OpenPage]:
    """Call it with an address, and options of a browser's page such as `viewport`."""
    pages = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def opened(url: str, **options: Any) -> Page:
        page = browser.new_page(locale="en-GB", timezone_id="UTC", **options)
        page.set_default_timeout(1000 * SECONDS)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        pages.append(page)
        page.goto(url)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def texts(page: Page, selector: str) -> list[str]:
    """What people read in each of these, without what is around it."""
    return [re.sub(r"\s+", " ", text).strip() for text in page.locator(selector).all_inner_texts()]
