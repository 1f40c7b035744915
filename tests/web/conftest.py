"""A real server, and people with real browsers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.rig.chromium import chromium_process, connected
from tests.rig.server import ServerProcess
from tests.web.visitor import Visitor

GENEROUS = {"CHAT_LIMITS__MESSAGES_PER_SECOND": "100000", "CHAT_LIMITS__MESSAGE_BURST": "100000"}

Visit = Callable[..., Awaitable[Visitor]]


@asynccontextmanager
async def running(*flags: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run a server without blocking the loop that drives the browser."""
    server = ServerProcess(*flags, **options)
    await asyncio.to_thread(server.__enter__)
    try:
        yield server
    except BaseException as error:
        await asyncio.to_thread(server.__exit__, type(error), error, None)
        raise
    await asyncio.to_thread(server.__exit__, None, None, None)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(environ=GENEROUS) as running:
        yield running


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """One Chromium for all tests: starting it takes longer than most of them."""
    with chromium_process() as address:
        yield address


@pytest.fixture
async def browser(endpoint: str) -> AsyncIterator[Browser]:
    async with connected(endpoint) as running:
        yield running


@pytest.fixture
async def visit(browser: Browser, server: ServerProcess) -> AsyncIterator[Visit]:
    """Let somebody open the page, each in a browser of their own."""
    async with AsyncExitStack() as stack:

        async def open_page(
            user: str = "", room: str = "lobby", *, at: ServerProcess = server, **options: object
        ) -> Visitor:
            visitor = await stack.enter_async_context(Visitor.arrive(browser, at.url, **options))
            if user:
                await visitor.sign_in(user, room)
            else:
                await visitor.page.goto(at.url)
            return visitor

        yield open_page
