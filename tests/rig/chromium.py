"""The real browser that page tests run in."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

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
    # Two sites, each with several hosts, are on this machine.
    "--host-resolver-rules=MAP *.example.org 127.0.0.1, MAP *.example.net 127.0.0.1",
]
NOT_PLAYWRIGHTS = ["--disable-back-forward-cache"]
"""What people's browsers do not have: a page stays as it is behind the one that follows it."""


def installed() -> str | None:
    """Return the path of the system's Chromium, or None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def executable(downloaded: str) -> str:
    """Return the path of a Chromium: the system's, else the one that playwright downloaded.

    Raises:
        AssertionError: there is none.
    """
    if path := installed():
        return path
    assert Path(downloaded).exists(), (
        "these tests need Chromium: `make test` installs it, or `apt install chromium`, "
        "or `playwright install chromium`"
    )
    return downloaded


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a headless Chromium; each of its contexts is a browser of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(playwright.chromium.executable_path),
            args=ARGUMENTS,
            ignore_default_args=NOT_PLAYWRIGHTS,
        )
        try:
            yield browser
        finally:
            await browser.close()
