"""A real server, and people with real browsers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize

from tests.conftest import clean_loop
from tests.rig.chromium import chromium
from tests.rig.preloaded import PreloadedServer
from tests.rig.server import ServerProcess
from tests.web.pages import WINDOW, Pages
from tests.web.visitor import Visitor

GENEROUS = {"CHAT_LIMITS__MESSAGES_PER_SECOND": "100000", "CHAT_LIMITS__MESSAGE_BURST": "100000"}

DRIVER_SECONDS = 90.0
"""How long the browser's driver may take for calls that a closed page has left behind."""

Visit = Callable[..., Awaitable[Visitor]]


@asynccontextmanager
async def running(*flags: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run a server without blocking the loop that drives the browser."""
    server = PreloadedServer(*flags, **options)
    await asyncio.to_thread(server.__enter__)
    try:
        yield server
    except BaseException as error:
        await asyncio.to_thread(server.__exit__, type(error), error, None)
        raise
    await asyncio.to_thread(server.__exit__, None, None, None)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with PreloadedServer(environ=GENEROUS) as running:
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one loop, which the browser's driver lives in."""
    # Six workers look at all tests, for which the methods of paths take seconds.
    folder = f"{Path(__file__).parent}/"
    one_loop = pytest.mark.asyncio(loop_scope="session")
    for item in items:
        if str(item.path).startswith(folder) and item.get_closest_marker("asyncio"):
            item.add_marker(one_loop, append=False)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _clean_loop() -> AsyncIterator[None]:
    """Do what the fixture of this name does for other tests, in their common loop."""
    async with clean_loop(DRIVER_SECONDS):
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests: starting it takes longer than most of them."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_browser() -> AsyncIterator[Browser]:
    """A Chromium with what the headless shell lacks."""
    async with chromium(whole=True) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pages(browser: Browser, server: ServerProcess) -> AsyncIterator[Pages]:
    """Pages for visitors without browsers of a special kind."""
    pages = Pages(browser, server)
    yield pages
    await pages.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, server: ServerProcess, pages: Pages) -> AsyncIterator[Visit]:
    """Let somebody open the page, each in a browser of their own.

    The browser may be one whose last visitor has signed out. `alone=True` forbids that, for tests
    that add scripts or handlers to the page, or judge its load.
    """
    async with AsyncExitStack() as stack:

        async def open_page(
            user: str = "",
            room: str = "lobby",
            *,
            at: ServerProcess = server,
            using: Browser = browser,
            alone: bool = False,
            viewport: ViewportSize = WINDOW,
            **options: object,
        ) -> Visitor:
            if at is server and using is browser and not (alone or options):
                visitor = await stack.enter_async_context(pages.visitor(viewport))
            else:
                options["viewport"] = viewport
                visitor = await stack.enter_async_context(Visitor.arrive(using, at.url, **options))
                if not user:
                    await visitor.page.goto(at.url)
            if user:
                await visitor.sign_in(user, room)
            return visitor

        yield open_page
