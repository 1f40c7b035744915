"""The real browser that page tests run in."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Playwright, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def executable(playwright: Playwright) -> str:
    """Return the path of a Chromium: the system's, else playwright's own.

    Raises:
        AssertionError: there is none.
    """
    for name in NAMES:
        if path := shutil.which(name):
            return path
    own = playwright.chromium.executable_path
    assert Path(own).exists(), (
        "these tests need Chromium: `make test` installs it, or `apt install chromium`, "
        "or `playwright install chromium`"
    )
    return own


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a headless Chromium; each of its contexts is a browser of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(playwright), args=ARGUMENTS
        )
        try:
            yield browser
        finally:
            await browser.close()
