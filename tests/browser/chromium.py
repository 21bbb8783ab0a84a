"""Debian's Chromium, driven by Playwright: one for a whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests import brokers


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[Browser]:
    """A browser without a window; where none is installed the test is skipped, or fails where CI=true."""
    program = shutil.which("chromium")
    if program is None:
        brokers.not_available(environment, "there is no chromium on the PATH: apt-get install chromium")
    sandbox = os.geteuid() != 0  # Chromium's own does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            browser.close()
