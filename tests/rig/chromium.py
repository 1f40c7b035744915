"""The real browser that page tests run in.

The headless shell has Chromium's engine and no windows, and needs less than half the processor
time. What it lacks, notifications and the cache behind the Back button, is in the whole Chromium.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

SHELL = "chromium-headless-shell"
WHOLE = ("chromium", "chromium-browser", "google-chrome")
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


def executable(downloaded: str, *, whole: bool) -> str | None:
    """Return the path of a Chromium: the system's, else the one that playwright downloaded.

    Args:
        downloaded: where playwright's whole Chromium would be, beside which is its headless shell.
        whole: the headless shell will not do.

    Returns:
        None for playwright's headless shell.

    Raises:
        AssertionError: there is none.
    """
    if not whole and (shell := shutil.which(SHELL)):
        return shell
    there = Path(downloaded).exists()
    if there and not whole:
        return None
    if path := next(filter(None, map(shutil.which, WHOLE)), None):
        return path
    assert there, (
        "these tests need Chromium: `make test` installs it, or `apt install chromium`, "
        "or `playwright install chromium`"
    )
    return downloaded


@asynccontextmanager
async def chromium(*, whole: bool = False) -> AsyncIterator[Browser]:
    """Run a headless Chromium; each of its contexts is a browser of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(playwright.chromium.executable_path, whole=whole),
            args=ARGUMENTS,
            ignore_default_args=NOT_PLAYWRIGHTS,
        )
        try:
            yield browser
        finally:
            await browser.close()
