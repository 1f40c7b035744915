"""The page gets its tokens from another host of its site, by TLS and with that host's cookies."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.rig.certificates import make_certificate
from tests.rig.ports import free_port
from tests.rig.server import mint
from tests.rig.waiting import until
from tests.web.conftest import running
from tests.web.visitor import Visitor

LIFE = 6.0
"""Seconds of a token: the page has to get the next one before long."""
ASK = (
    """url => fetch(url, { method: "POST", mode: "no-cors" }).then(() => "sent", () => "blocked")"""
)
CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials")


class Application:
    """An application of one's own at https://www.example.org, with the cookie that it is told."""

    def __init__(self, origin: str) -> None:
        self.begin(origin)

    def begin(self, origin: str) -> None:
        """Do all right, and forget what was."""
        self.cookie = "SameSite=Lax; Domain=example.org"
        self.redirects = False
        self.headers: dict[str, str] = dict(zip(CORS, (origin, "true"), strict=True))
        self.cookies: list[str] = []
        self.methods: set[str] = set()
        """With what it was asked for tokens: a question ahead of a request would be an OPTIONS."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sent = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:-2])
        status, more, body = "200 OK", dict[str, str](), "signed in"
        if head.split()[1] == "/sign-in":
            more = {"Set-Cookie": f"session=s-1; Path=/; Secure; HttpOnly; {self.cookie}"}
        elif head.split()[1] == "/chat-token":
            self.methods.add(head.split()[0])
            self.cookies.append(sent.get("cookie", ""))
            more, body = self.headers, mint("ada", ttl_seconds=LIFE)
            if self.cookies[-1] != "session=s-1":
                status, body = "401 Unauthorized", ""
                if self.redirects:
                    status, more = "302 Found", {**more, "Location": "/login"}
        more = {**more, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in more.items())]
        writer.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())
        await writer.drain()
        writer.close()


class Site:
    """The chat and the application, on two hosts of one site."""

    def __init__(self, chat: str, www: str, application: Application) -> None:
        self.chat = chat
        self.www = www
        self.application = application

    async def signs_in(self, visitor: Visitor) -> None:
        """Sign in at the application, and open the chat."""
        await visitor.page.goto(f"{self.www}/sign-in")
        await visitor.page.goto(self.chat)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    port, chat_port = free_port(), free_port()
    www, chat = f"https://www.example.org:{port}", f"https://chat.example.org:{chat_port}"
    application = Application(chat)
    async with (
        await asyncio.start_server(application.answer, "127.0.0.1", port, ssl=tls),
        running(
            environ={"CHAT_HTTP__PAGE_TOKEN_URL": f"{www}/chat-token"},
            certificate=certificate,
            port=chat_port,
        ),
    ):
        yield Site(chat, www, application)


@pytest_asyncio.fixture(loop_scope="session")
async def ada(browser: Browser, places: Site) -> AsyncIterator[Visitor]:
    """Ada, whose browser knows nothing yet of an application that does all right."""
    places.application.begin(places.chat)
    async with Visitor.arrive(browser, places.chat, ignore_https_errors=True) as visitor:
        yield visitor


@pytest.mark.parametrize("cookie", ["SameSite=Lax; Domain=example.org", "SameSite=Lax"])
async def test_another_host_of_the_site_gives_the_tokens(
    places: Site, ada: Visitor, cookie: str
) -> None:
    application = places.application
    application.cookie = cookie
    ada.refusals = (401,)
    told = ada.page.locator("#sign-in-error")
    for application.redirects in (False, True):
        await ada.page.goto(places.chat)
        await expect(told).to_contain_text("You are not signed in.")
        await ada.page.goto("about:blank")
    await places.signs_in(ada)
    await ada.online()
    assert set(application.cookies) == {"", "session=s-1"}
    assert application.methods == {"POST"}


async def test_the_next_token_comes_from_there_too(places: Site, ada: Visitor) -> None:
    await places.signs_in(ada)
    await ada.online()
    seen = len(places.application.cookies)
    await until(lambda: len(places.application.cookies) > seen)
    await ada.say("by way of another host")
    await ada.sees(["by way of another host"])


async def test_the_page_asks_no_third_host(places: Site, ada: Visitor) -> None:
    await places.signs_in(ada)
    await ada.online()
    assert await ada.page.evaluate(ASK, f"{places.www}/sign-in") == "sent"
    ada.expected = re.compile(
        "Connecting to 'https://example.net/|Fetch API cannot load https://example.net/"
    )
    assert await ada.page.evaluate(ASK, "https://example.net/") == "blocked"


@pytest.mark.parametrize("lacking", CORS)
async def test_an_answer_that_pages_may_not_read_signs_nobody_in(
    places: Site, ada: Visitor, lacking: str
) -> None:
    ada.expected = re.compile("Access to fetch at|Failed to load resource: net::ERR_FAILED")
    value = places.application.headers.pop(lacking)
    await places.signs_in(ada)
    await expect(ada.page.locator("#sign-in-error")).to_have_text(
        "The server does not answer. Trying again…"
    )
    places.application.headers[lacking] = value
    await ada.online()


async def test_a_page_of_another_site_brings_no_cookie(places: Site, ada: Visitor) -> None:
    other = places.chat.replace("example.org", "example.net")
    places.application.headers[CORS[0]] = other
    ada.refusals = (401,)
    await ada.page.goto(f"{places.www}/sign-in")
    await ada.page.goto(other)
    await expect(ada.page.locator("#sign-in-error")).to_contain_text("You are not signed in.")
    assert set(places.application.cookies) == {""}
