"""The real browser that page tests run in."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 60.0
POLL_SECONDS = 0.05
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
            executable_path=executable(playwright.chromium.executable_path), args=ARGUMENTS
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextmanager
def chromium_process() -> Iterator[str]:
    """Run a headless Chromium for many tests; yields the URL at which `connected` drives it."""
    path = installed()
    if path is None:
        with sync_playwright() as playwright:
            path = executable(playwright.chromium.executable_path)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [path, *ARGUMENTS, "--remote-debugging-port=0", f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            yield _endpoint(process, Path(profile) / "DevToolsActivePort")
        finally:
            process.terminate()


def _endpoint(process: subprocess.Popen[bytes], file: Path) -> str:
    """Wait for the file in which Chromium writes the port and the path it listens at."""
    deadline = time.monotonic() + START_SECONDS
    while not (file.exists() and len(lines := file.read_text().splitlines()) == 2):
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        assert time.monotonic() < deadline, "Chromium did not start"
        time.sleep(POLL_SECONDS)
    port, path = lines
    return f"ws://127.0.0.1:{port}{path}"


@asynccontextmanager
async def connected(endpoint: str) -> AsyncIterator[Browser]:
    """Drive a Chromium that runs already."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(endpoint)
        try:
            yield browser
        finally:
            await browser.close()
