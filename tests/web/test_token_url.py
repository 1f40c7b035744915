"""The page gets its tokens from an application, with the cookies of whoever looks at it."""

import re

from playwright.async_api import Browser, Route, expect

from tests.rig.server import mint
from tests.rig.waiting import until
from tests.web.conftest import running
from tests.web.visitor import Visitor

LIFE = 6.0
"""Seconds of a token: the page has to get the next one before long."""


class Application:
    """Answers for /chat-token, as it is told to."""

    def __init__(self) -> None:
        self.status = 503
        self.location = ""
        self.asked = 0
        self.cookies: set[str] = set()
        self.user = "ada"

    async def answer(self, route: Route) -> None:
        """Answer one request."""
        self.asked += 1
        headers = await route.request.all_headers()
        self.cookies.add(headers.get("cookie", ""))
        body = mint(self.user, ttl_seconds=LIFE) if self.status == 200 else "<h1>Sorry</h1>"
        more = {"Location": self.location} if self.location else {}
        await route.fulfill(status=self.status, body=body, headers=more)


async def test_an_application_gives_the_tokens(browser: Browser) -> None:
    application = Application()
    async with (
        running(environ={"CHAT_HTTP__PAGE_TOKEN_URL": "/chat-token"}) as server,
        Visitor.arrive(browser, server.url) as visitor,
    ):
        page = visitor.page
        visitor.refusals = (401, 503)
        await page.context.add_cookies([{"name": "session", "value": "s-1", "url": server.url}])
        await page.route("**/chat-token", application.answer)
        await page.goto(server.url)
        told = page.locator("#sign-in-error")
        await expect(told).to_contain_text("The server answered 503. Trying again…")
        application.status = 401
        await expect(told).to_contain_text("Sign in where this chat belongs to")
        application.status = 200
        await page.reload()
        await visitor.online()
        await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        assert application.cookies == {"session=s-1"}

        for status in (503, 200):  # the chat goes on, and asks again
            application.status, before = status, application.asked
            await until(lambda: application.asked > before + 1)  # noqa: B023
        await visitor.online()
        await visitor.say("still here")
        await visitor.sees(["still here"])

        application.status = 401
        await expect(page.locator("#sign-in")).to_be_visible()
        await expect(told).to_have_text(re.compile("Your sign-in has ended"))


async def test_who_is_led_to_a_form_is_not_signed_in(browser: Browser) -> None:
    application = Application()
    application.status, application.location = 302, "/login"
    async with (
        running(environ={"CHAT_HTTP__PAGE_TOKEN_URL": "/chat-token"}) as server,
        Visitor.arrive(browser, server.url) as visitor,
    ):
        page = visitor.page
        await page.route("**/chat-token", application.answer)
        await page.goto(server.url)
        await expect(page.locator("#sign-in-error")).to_contain_text("You are not signed in.")
