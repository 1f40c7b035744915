"""Somebody who uses the chat page."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.rig.server import mint

SECONDS = 40.0
expect.set_options(timeout=SECONDS * 1000)


AWAY = re.compile(
    r"WebSocket connection to"
    r"|Failed to load resource: net::ERR_"
    r"(CONNECTION_\w+|EMPTY_RESPONSE|INTERNET_DISCONNECTED|SOCKET_NOT_CONNECTED)"
)
"""How the browser itself complains of a server that is away, or goes while it is asked."""

REFUSED = "Failed to load resource: the server responded with a status of "


class Visitor:
    """Drives one page; leaving it demands that the page reported no fault."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.refusals: tuple[int, ...] = ()
        """Statuses that are expected: the browser complains of every answer from 400 on."""
        self.expected: re.Pattern[str] | None = None
        """What else the browser may complain of."""
        page.set_default_timeout(SECONDS * 1000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._on_console)
        self.log = page.locator("#log > .message")
        self.outbox = page.locator("#outbox > .message")
        self.state = page.locator("#state")
        self.field = page.get_by_label("Message", exact=True)
        self.room = page.get_by_label("Room", exact=True)

    @classmethod
    @asynccontextmanager
    async def arrive(cls, browser: Browser, url: str, **options: Any) -> "AsyncIterator[Visitor]":
        """Open a browser of their own, without a page in it yet."""
        context = await browser.new_context(**options)
        visitor = cls(await context.new_page(), url)
        yield visitor
        await context.close()
        assert visitor.faults == []

    async def sign_in(self, user: str, room: str = "lobby", **claims: Any) -> None:
        """Follow a link such as the development server prints."""
        await self.follow(mint(user, **claims), room)
        await self.online()

    async def follow(self, token: str, room: str) -> None:
        """Open a link with a token."""
        await self.page.goto(f"{self.url}/#token={token}&room={room}")

    async def say(self, text: str) -> None:
        """Write a message and press Enter."""
        await self.field.fill(text)
        await self.field.press("Enter")

    async def go(self, room: str) -> None:
        """Write a room's name where it stands, and press Enter."""
        await self.room.fill(room)
        await self.room.press("Enter")

    async def enter(self, token: str) -> None:
        """Sign in with the form."""
        await self.page.get_by_label("Token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()

    async def online(self) -> None:
        """Wait until the page says so."""
        await expect(self.state).to_have_text("Online")

    async def sees(self, texts: Sequence[str]) -> None:
        """Wait until exactly these messages are shown, in this order, and none is pending."""
        shown = self.log.locator(".text")
        await expect(shown).to_have_text(list(texts))
        await expect(self.outbox).to_have_count(0)

    def _on_console(self, message: ConsoleMessage) -> None:
        expected = tuple(f"{REFUSED}{status} " for status in self.refusals)
        if message.text.startswith(expected or ("\0",)):
            return
        if self.expected and self.expected.match(message.text):
            return
        if message.type == "error" and not AWAY.match(message.text):
            self.faults.append(message.text)
