"""`python -m tests.browser.screenshots FOLDER URL`: the pages at this address, wide, on a phone, light and dark."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser import chromium

WIDE, PHONE = (1440, 900), (390, 844)
PICTURES = [
    ("wide-light", "", WIDE, "light"),
    ("wide-dark", "", WIDE, "dark"),
    ("versions-24h", "?range=24h&by=version&segment=movies", WIDE, "light"),
    ("week-weighted", "?range=7d&rate=weighted", WIDE, "light"),
    ("phone-light", "", PHONE, "light"),
    ("phone-dark", "?range=24h", PHONE, "dark"),
]


def take(browser: Browser, url: str, folder: Path) -> None:
    """One file for each picture, and for the newest episode."""
    for name, search, (width, height), scheme in PICTURES:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            device_scale_factor=2 if width < 500 else 1,
            locale="en-GB",
            timezone_id="UTC",
        )
        page.goto(f"{url}/{search}")
        expect(page.locator("#state-name")).to_have_text("Live", timeout=60_000)
        expect(page.locator("#figures")).not_to_have_attribute("aria-busy", "true", timeout=60_000)
        expect(page.locator("#plot canvas")).to_be_visible(timeout=60_000)
        expect(page.locator("#failures-list > li").first).to_be_visible(timeout=60_000)
        page.screenshot(path=folder / f"{name}.png", full_page=True)
        if search == "":
            page.locator("a.episode").first.click()
            expect(page.locator(".event").first).to_be_visible(timeout=60_000)
            page.screenshot(path=folder / f"episode-{name}.png", full_page=True)
        page.close()


def main(folder: str, url: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with chromium.running(os.environ) as browser:
        take(browser, url.rstrip("/"), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
