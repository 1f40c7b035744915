"""The real browser of page tests.

The headless shell has Chromium's engine without windows, and needs less than half the processor
time. The whole Chromium also has notifications and the cache behind the Back button.
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
"""Playwright's switches that users' browsers lack: without them a page stays in memory behind the
next page.
"""


def executable(downloaded: str, *, whole: bool) -> str | None:
    """Return the path of a Chromium: the system's, otherwise playwright's download.

    Args:
        downloaded: the path of playwright's whole Chromium; its headless shell is next to that
            path.
        whole: True requires the whole Chromium.

    Returns:
        None for playwright's headless shell.

    Raises:
        AssertionError: no Chromium is installed.
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
    """Run a headless Chromium; each of its contexts acts as a separate browser."""
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
