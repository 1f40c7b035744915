"""Signing up, in and out on the page, and staying signed in: over a reload, a restart, in tabs."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from chat_server.accounts.administration import Administration
from chat_server.clock import SystemClock
from chat_server.database.database import Database
from chat_server.settings import Settings, load_settings
from tests.rig.preloaded import PreloadedServer
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import running
from tests.web.test_accessibility import assert_clean
from tests.web.visitor import Visitor

PASSWORD = "correct horse"
LIFE = 6.0
"""Seconds of an access token: the page has to get the next one before long."""


def environ_of(folder: Path, sign_up: str = "open") -> dict[str, str]:
    return {
        "CHAT_ENVIRONMENT": "testing",
        "CHAT_ACCOUNTS__ENABLED": "on",
        "CHAT_ACCOUNTS__SIGN_UP": sign_up,
        "CHAT_ACCOUNTS__ACCESS_SECONDS": str(LIFE),
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
        "CHAT_ACCOUNTS__ATTEMPTS_PER_NAME": "1000",
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{folder / 'chat.db'}",
    }


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environ_of(tmp_path_factory.mktemp("accounts"))


@pytest.fixture(scope="module")
def server(environ: dict[str, str]) -> Iterator[ServerProcess]:
    with PreloadedServer(environ=environ) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, server: ServerProcess) -> AsyncIterator[Visitor]:
    async with Visitor.arrive(browser, server.url) as visitor:
        await visitor.page.goto(server.url)
        yield visitor


async def fill(page: Page, name: str, password: str = PASSWORD) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.locator("#account-submit").click()


async def sign_up(visitor: Visitor, name: str) -> None:
    await visitor.page.get_by_role("button", name="I am new here").click()
    await fill(visitor.page, name)
    await visitor.online()
    await expect(visitor.page.locator("#me")).to_have_text(name)
    await visitor.go(f"of-{name}")


async def ask(server: ServerProcess, path: str, **body: object) -> Any:
    request = urllib.request.Request(
        f"{server.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )

    def post() -> Any:
        with urllib.request.urlopen(request, timeout=240) as answer:
            return json.load(answer)

    return await asyncio.to_thread(post)


async def another_tab(visitor: Visitor) -> Page:
    page = await visitor.page.context.new_page()
    await page.goto(visitor.page.url)
    await expect(page.locator("#state")).to_have_text("Online")
    return page


async def test_what_is_wrong_stands_at_its_field(visitor: Visitor) -> None:
    visitor.refusals = (401, 422)
    page = visitor.page
    await fill(page, "nobody")
    alert = page.locator("#sign-in-error")
    await expect(alert).to_have_text("The name or the password is wrong.")
    await page.get_by_role("button", name="I am new here").click()
    await expect(alert).to_be_hidden()
    await expect(page.locator("#password")).to_have_attribute("autocomplete", "new-password")
    await fill(page, "\u0430nna", "short")
    await expect(page.locator("#name-error")).to_contain_text("letters of one script")
    await expect(page.locator("#password-error")).to_contain_text("8 to 256 characters")
    await expect(page.get_by_label("Name")).to_be_focused()
    await assert_clean(page)
    await fill(page, "anna")
    await visitor.online()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="I am new here").click()
    await fill(page, "Anna")
    await expect(page.locator("#name-error")).to_have_text(
        "It is taken, or looks like one that is."
    )


async def test_stays_signed_in_over_reload_restart_and_in_tabs(
    visitor: Visitor, server: ServerProcess
) -> None:
    visitor.refusals = (401,)  # for who reloads while nobody is signed in any more
    page = visitor.page
    await sign_up(visitor, "alice")
    await visitor.say("hello")
    await visitor.sees(["hello"])
    [cookie] = await page.context.cookies()
    assert (cookie["name"], cookie["sameSite"]) == ("chat_refresh", "Lax")
    assert cookie["httpOnly"]
    kept = await page.evaluate("Object.keys(sessionStorage).concat(Object.keys(localStorage))")
    assert sorted(kept) == ["chat.account", "chat.room", "chat.rooms:alice", "chat.tab"]
    assert await page.evaluate("document.cookie") == ""
    await page.reload()
    await visitor.online()
    await visitor.sees(["hello"])
    tab = await another_tab(visitor)
    await expect(tab.locator("#me")).to_have_text("alice")
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    for each in (page, tab):
        await expect(each.locator("#state")).to_have_text("Online")
    await page.reload()
    await visitor.online()
    await visitor.say("after the restart")
    await expect(tab.locator("#log .text").last).to_have_text("after the restart")
    # Others may see a message before its sender hears that it is stored.
    unsent = page.get_by_role("list", name="Messages that are not sent yet")
    await expect(unsent.get_by_role("listitem")).to_have_count(0)
    [cookie] = await page.context.cookies()
    async with tab.expect_response("**/auth/logout"):
        await tab.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#sign-in-error")).to_have_text("You were signed out in another tab.")
    await expect(tab.get_by_label("Name")).to_be_focused()
    with pytest.raises(HTTPError, match="401"):
        await ask(server, "/auth/refresh", refresh_token=cookie["value"])
    for each in (page, tab):
        await each.reload()
        await expect(each.get_by_label("Name")).to_be_visible()
    await fill(page, "Alice")
    await visitor.online()


async def test_a_token_is_replaced_before_it_ends(visitor: Visitor) -> None:
    await sign_up(visitor, "renee")
    tab = await another_tab(visitor)
    for page in (visitor.page, tab):
        for _ in range(2):
            await page.wait_for_event("response", lambda r: r.url.endswith("/auth/refresh"))
    await visitor.say("still here")
    await visitor.sees(["still here"])
    await expect(tab.locator("#log .text").last).to_have_text("still here")


async def test_a_sign_in_that_was_ended_elsewhere_is_told(
    visitor: Visitor, server: ServerProcess
) -> None:
    visitor.refusals = (401,)
    await sign_up(visitor, "ellen")
    await visitor.field.fill("a draft")
    other = await ask(server, "/auth/login", name="ellen", password=PASSWORD)
    await ask(server, "/auth/logout", refresh_token=other["refresh_token"], everywhere=True)
    told = visitor.page.locator("#sign-in-error")
    await expect(told).to_contain_text("Your sign-in has ended. What you have not sent is kept")
    await fill(visitor.page, "ellen")
    await visitor.online()
    await expect(visitor.field).to_have_value("a draft")


async def test_a_link_with_a_token_asks_who_is_signed_in(visitor: Visitor) -> None:
    await sign_up(visitor, "lena")
    tab = await visitor.page.context.new_page()
    await tab.goto(f"{visitor.url}/#token={mint('eve')}&room=theirs")
    question = tab.get_by_role("dialog")
    await expect(question).to_contain_text("This link signs you in as eve. Now you are signed in")
    await question.get_by_role("button", name="Stay lena").click()
    await expect(tab.locator("#me")).to_have_text("lena")


async def test_another_user_in_another_tab_is_not_mixed_up(visitor: Visitor) -> None:
    await sign_up(visitor, "olga")
    tab = await another_tab(visitor)
    await tab.get_by_role("button", name="Sign out").click()
    await tab.get_by_role("button", name="I am new here").click()
    await fill(tab, "vera")
    await expect(tab.locator("#me")).to_have_text("vera")
    await expect(visitor.page.locator("#sign-in-error")).to_contain_text("another tab")
    await expect(tab.locator("#state")).to_have_text("Online")


APPLICATION = """
from quart import Quart, Request
from chat_server import ChatServer, Identity, load_settings

app = Quart(__name__)

async def authenticate(request: Request) -> Identity | None:
    return Identity("7", name="Ada") if request.cookies.get("session") == "s-1" else None

chat = ChatServer(load_settings(), authenticate=authenticate)
chat.init_app(app)
"""


async def test_an_application_signs_its_users_in_itself(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "embedding.py").write_text(APPLICATION)
    async with (
        running("--app", "embedding:app", folder=tmp_path) as server,
        Visitor.arrive(browser, server.url) as visitor,
    ):
        page = visitor.page
        visitor.refusals = (401,)
        await page.goto(server.url)
        await expect(page.locator("#sign-in-error")).to_contain_text("You are not signed in.")
        await expect(page.get_by_label("Name")).to_be_hidden()
        visitor.refusals = ()
        cookie = {"name": "session", "value": "s-1", "url": server.url}
        await page.context.add_cookies([cookie])  # type: ignore[list-item]
        await page.reload()
        await visitor.online()
        await expect(page.locator("#me")).to_have_text("Ada")
        await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        await visitor.say("from the application")
        await visitor.sees(["from the application"])


def settings_of(environ: dict[str, str]) -> Settings:
    return load_settings(environ=environ)


async def test_an_invitation_lets_somebody_sign_up(browser: Browser, tmp_path: Path) -> None:
    environ = environ_of(tmp_path, "invited")
    async with running(environ=environ) as server:
        settings = await asyncio.to_thread(settings_of, environ)
        database = Database(settings.database)
        await database.start()
        operator = Administration(settings, database, SystemClock())
        token = (await operator.invite(["member"])).token
        await database.stop()
        async with Visitor.arrive(browser, server.url) as visitor:
            page = visitor.page
            await page.goto(server.url)
            await expect(page.get_by_label("Name")).to_be_visible()
            await expect(page.get_by_role("button", name="I am new here")).to_be_hidden()
            await page.goto(f"{server.url}/#invitation={token}")
            await expect(page.get_by_role("heading")).to_have_text("Sign up")
            assert "invitation" not in page.url
            await fill(page, "ines")
            await visitor.online()
