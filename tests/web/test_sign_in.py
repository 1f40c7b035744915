"""Who is signed in, by which link, and what their token allows."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

from playwright.async_api import expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.rig.tokens import forge
from tests.web.conftest import Visit, running
from tests.web.visitor import Visitor

BLOCKED = """for (const name of ["sessionStorage", "localStorage"]) {
  Object.defineProperty(window, name, {
    get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
  });
}"""
SECRET = "not-the-one-of-development-0123456789"


async def open_link(visitor: Visitor, token: str, room: str) -> None:
    """Follow a link in the page that is open."""
    await visitor.page.evaluate("hash => { location.hash = hash; }", f"#token={token}&room={room}")


async def test_a_link_asks_before_it_signs_in_somebody_else(visit: Visit) -> None:
    alice = await visit("alice", "mine")
    standing = await alice.page.evaluate("sessionStorage.getItem('chat.token')")
    question = alice.page.get_by_role("dialog")
    for away in (False, True):  # in the open page, and in one that is loaded by the link
        if away:
            await alice.page.goto("about:blank")
            await alice.follow(mint("eve", name="Eve\u202e"), "theirs")
        else:
            await open_link(alice, mint("eve", name="Eve\u202e"), "theirs")
        await expect(question).to_contain_text(
            "This link signs you in as Eve\ufffd. Now you are signed in as alice."
        )
        assert "token" not in alice.page.url
        await expect(question.get_by_role("button", name="Stay alice")).to_be_focused()
        await alice.page.keyboard.press("Enter")
        await expect(question).to_be_hidden()
        await expect(alice.page).to_have_title("#mine")
        assert alice.page.url.endswith("#room=mine")
        assert await alice.page.evaluate("sessionStorage.getItem('chat.token')") == standing
    await alice.say("still alice")
    await alice.sees(["still alice"])
    await open_link(alice, mint("bob"), "first")
    await open_link(alice, mint("eve"), "theirs")
    await question.get_by_role("button", name="Sign in as eve").click()
    await alice.online()
    await expect(alice.page).to_have_title("#theirs")
    await expect(alice.page.locator("#me")).to_have_text("eve")


async def test_a_session_that_has_expired_is_not_asked_about(visit: Visit) -> None:
    alice = await visit("alice", "old")
    await alice.page.evaluate("sessionStorage.setItem('chat.token', 'e30.eyJleHAiOjF9.x')")
    await alice.page.goto("about:blank")
    await alice.sign_in("bob", "new")
    await expect(alice.page.locator("#me")).to_have_text("bob")


async def test_the_page_works_where_storage_is_blocked(visit: Visit) -> None:
    alice = await visit(alone=True)
    await alice.page.add_init_script(BLOCKED)
    await alice.page.reload()
    await expect(alice.page.get_by_label("Token")).to_be_visible()
    await alice.enter(mint("alice"))
    await alice.online()
    await alice.say("without storage")
    await alice.sees(["without storage"])
    await alice.field.fill("a draft")
    await alice.go("elsewhere")
    await alice.go("lobby")
    await expect(alice.field).to_have_value("a draft")


async def test_a_refused_sign_in_tells_what_the_server_says(visit: Visit) -> None:
    alice = await visit()
    await alice.enter(forge(name="n" * 182))
    told = alice.page.get_by_role("alert")
    await expect(told).to_contain_text("Your sign-in has expired or is not valid. (")
    await expect(told).to_contain_text("name")


async def test_a_token_without_history_opens_a_room(visit: Visit, server: ServerProcess) -> None:
    async with connect(server.url, token=mint("bob")) as bob:
        await bob.publish("room:listen", {"text": "before"})
        alice = await visit()
        await alice.sign_in("alice", "listen", subscribe=["room:**"], publish=["**"], history=[])
        await expect(alice.page.locator("#empty")).to_contain_text(
            "You are not allowed to read what was written before."
        )
        await bob.publish("room:listen", {"text": "after"})
        await alice.say("I can hear you")
        await alice.sees(["after", "I can hear you"])
        await expect(alice.page.get_by_role("alert")).to_have_count(0)


async def test_who_may_only_write_sees_what_they_wrote(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "write-only", subscribe=[], publish=["room:**"], history=[])
    told = alice.page.get_by_role("alert")
    await expect(told).to_contain_text("#write-only: You are not allowed to read here.")
    await expect(told).to_contain_text("Your token allows you to read nothing.")
    await alice.say("anybody there?")
    await alice.sees(["anybody there?"])


async def test_a_token_that_allows_nothing_is_told(visit: Visit) -> None:
    async with running(environ=production()) as server:
        alice = await visit(at=server)
        await alice.enter(await run_cli("chat-server token --sub alice"))
        told = alice.page.get_by_role("alert")
        await expect(told).to_contain_text("#lobby: You are not allowed to read here.")
        await expect(told).to_contain_text("Your token names no rooms")
        await alice.say("hello?")
        await expect(alice.outbox).to_contain_text("Not sent. You are not allowed to write here.")


async def test_the_command_on_the_page_prints_a_token_that_works(visit: Visit) -> None:
    async with running(environ=production()) as server:
        alice = await visit(at=server)
        command = await alice.page.locator("#sign-in code").inner_text()
        await alice.enter(await run_cli(command))
        await alice.online()
        await alice.say("in production")
        await alice.sees(["in production"])
        await expect(alice.page.locator("#me")).to_have_text("alice")


def production() -> dict[str, str]:
    return {
        "CHAT_ENVIRONMENT": "production",
        "CHAT_AUTH__SECRET": SECRET,
    }


async def run_cli(command: str) -> str:
    """Run a `chat-server` command with production's settings; returns what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "chat-server"
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("chat-server"),
        *arguments,
        env={**os.environ, **production()},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().strip()
