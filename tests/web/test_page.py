"""The chat page in a real browser against a real server: what people do with it."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from chat_server.client import connect, publish_all
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

HOSTILE = '<img src=x onerror="harmed = true"><script>harmed = true</script> &amp; <b>'
ISO_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
MAX_BYTES = 90 * 1024
WEIGHT = """() => performance.getEntries()
  .reduce((sum, { encodedBodySize = 0 }) => sum + encodedBodySize, 0)"""
SCROLL_UP = """s => new Promise((done) => {
  s.addEventListener("scroll", () => done(), { once: true });
  s.scrollTop = 0;
})"""


async def publish(server: ServerProcess, room: str, *texts: str, user: str = "bot") -> None:
    """Publish messages through the Python client."""

    async def items() -> AsyncIterator[object]:
        for text in texts:
            yield {"text": text}

    async with connect(server.url, token=mint(user)) as chat:
        async for _ in publish_all(chat, f"room:{room}", items()):
            pass


async def test_two_people_talk(visit: Visit) -> None:
    alice, bob = await visit("alice", "talk"), await visit("bob", "talk")
    await alice.say("hello bob")
    await bob.sees(["hello bob"])
    await bob.say("hello alice")
    await alice.sees(["hello bob", "hello alice"])
    await expect(alice.log.nth(0)).to_have_class("message own")
    await expect(alice.log.nth(0).locator(".sender")).to_have_text("You")
    await expect(bob.log.nth(0)).to_have_class("message")
    await expect(bob.log.nth(0).locator(".sender")).to_have_text("alice")
    await expect(bob.log.nth(0).locator("time")).to_have_attribute("datetime", ISO_TIME)


async def test_what_users_write_is_only_text(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "hostile")
    bob = await visit("bob", "hostile")
    await alice.say(HOSTILE)
    await bob.sees([HOSTILE])
    async with connect(server.url, token=mint("eve", name=HOSTILE[:100])) as chat:
        await chat.publish("room:hostile", {"text": HOSTILE})
        await chat.publish("room:hostile", {"html": HOSTILE})
        await chat.publish("room:hostile", HOSTILE)
    await expect(bob.log).to_have_count(4)
    await expect(bob.log.nth(1).locator(".sender")).to_have_text(HOSTILE[:100])
    for visitor in (alice, bob):
        assert await visitor.page.locator("#log img, #log script, #log b").count() == 0
        assert await visitor.page.evaluate("window.harmed") is None


async def test_the_page_is_small(visit: Visit) -> None:
    alice = await visit("alice", "weight", alone=True)
    weight = await alice.page.evaluate(WEIGHT)
    assert 30 * 1024 < weight <= MAX_BYTES, weight


async def test_the_last_fifty_are_shown(visit: Visit, server: ServerProcess) -> None:
    await publish(server, "long", *(f"m{n}" for n in range(60)))
    alice = await visit("alice", "long")
    await alice.sees([f"m{n}" for n in range(10, 60)])
    await alice.say("one more")
    await alice.sees([*(f"m{n}" for n in range(10, 60)), "one more"])
    await alice.page.locator("#scroller").evaluate(SCROLL_UP)
    await alice.sees([*(f"m{n}" for n in range(60)), "one more"])


async def test_the_token_leaves_the_address(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "address")
    assert alice.page.url == f"{server.url}/#room=address"
    stored = await alice.page.evaluate(
        "[sessionStorage.getItem('chat.token'), Object.entries(localStorage)]"
    )
    assert stored[0].count(".") == 2
    assert stored[1] == [["chat.rooms:alice", '["address"]']]
    assert await alice.page.evaluate("document.cookie") == ""
    await alice.say("before")
    await alice.sees(["before"])
    await alice.page.reload()
    await alice.online()
    await alice.sees(["before"])
    await alice.page.go_back()
    assert "token" not in alice.page.url


async def test_without_a_token_one_is_asked_for(visit: Visit) -> None:
    guest = await visit()
    await expect(guest.page.locator("#chat")).to_be_hidden()
    field = guest.page.get_by_label("Token")
    await expect(field).to_be_focused()
    await expect(guest.page.locator("#sign-in")).to_contain_text("chat-server token --sub alice")
    await field.fill("nonsense")
    await guest.page.get_by_role("button", name="Sign in").click()
    await expect(guest.page.get_by_role("alert")).to_contain_text(
        "This is not a token: a token has"
    )
    forged = mint("alice")[:-6] + "AAAAAA"
    await field.fill(forged)
    await guest.page.get_by_role("button", name="Sign in").click()
    await expect(guest.page.get_by_role("alert")).to_contain_text("sign-in has expired or is not")
    await field.fill(f"  {mint('alice')}\n")
    await guest.page.get_by_role("button", name="Sign in").click()
    await guest.online()
    await guest.page.get_by_role("button", name="Sign out").click()
    await expect(guest.page.locator("#sign-in")).to_be_visible()
    await guest.page.reload()
    await expect(guest.page.locator("#sign-in")).to_be_visible()


async def test_rooms_are_apart(visit: Visit) -> None:
    alice, bob = await visit("alice", "one"), await visit("bob", "two")
    await alice.say("in one")
    await alice.sees(["in one"])
    room = bob.room
    await bob.say("in two")
    await bob.sees(["in two"])
    await room.fill("not/a room!")
    await room.press("Enter")
    await expect(bob.page.get_by_role("alert")).to_contain_text("A room's name has only a to z")
    await room.fill("one")
    await bob.page.get_by_role("button", name="Join").click()
    await bob.sees(["in one"])
    await expect(bob.page).to_have_title("#one")
    assert bob.page.url.endswith("/#room=one")
    await bob.say("me too")
    await alice.sees(["in one", "me too"])


async def test_enter_sends_and_shift_enter_breaks_the_line(visit: Visit) -> None:
    alice = await visit("alice", "keys")
    await alice.field.press_sequentially("one")
    await alice.field.press("Shift+Enter")
    await alice.field.press_sequentially("two")
    await alice.field.press("Enter")
    await expect(alice.field).to_have_value("")
    await alice.field.fill("   ")
    await alice.field.press("Enter")
    await alice.page.get_by_role("button", name="Send").click()
    await alice.say("three")
    await alice.sees(["one\ntwo", "three"])
    await expect(alice.page.get_by_role("log")).to_have_attribute("aria-busy", "false")


async def test_new_messages_do_not_pull_away_who_reads_old_ones(
    visit: Visit, server: ServerProcess
) -> None:
    await publish(server, "scroll", *(f"m{n}" for n in range(50)))
    alice = await visit("alice", "scroll")
    bottom = "s => s.scrollHeight - s.scrollTop - s.clientHeight"
    scroller = alice.page.locator("#scroller")
    await expect(alice.log).to_have_count(50)
    assert await scroller.evaluate(bottom) < 2
    await publish(server, "scroll", "at the end")
    await expect(alice.log).to_have_count(51)
    assert await scroller.evaluate(bottom) < 2
    await scroller.evaluate(SCROLL_UP)
    await publish(server, "scroll", "unseen", "unseen too")
    newer = alice.page.get_by_role("button", name="2 new messages")
    await expect(newer).to_be_visible()
    assert await scroller.evaluate("s => s.scrollTop") < 2
    await newer.press("Enter")
    assert await scroller.evaluate(bottom) < 2
    await expect(newer).to_be_hidden()
    await expect(scroller).to_be_focused()


async def test_messages_of_one_person_are_grouped(visit: Visit, server: ServerProcess) -> None:
    await publish(server, "groups", "a1", "a2", user="anna")
    await publish(server, "groups", "b1", user="ben")
    await publish(server, "groups", "a3", user="anna")
    carl = await visit("carl", "groups")
    await carl.sees(["a1", "a2", "b1", "a3"])
    await expect(carl.log.locator(".sender:visible")).to_have_count(3)
    await expect(carl.log.nth(0)).to_have_attribute("data-day", "Today")
    await expect(carl.page.locator("[data-day]")).to_have_count(1)


@pytest.mark.parametrize("width", [320, 1400])
async def test_nothing_overflows(visit: Visit, width: int) -> None:
    room = f"wide-{width}"
    alice = await visit("alice", room, viewport={"width": width, "height": 600})
    await alice.say("w" * 3000)
    await expect(alice.log).to_have_count(1)
    assert await alice.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await alice.page.evaluate("document.documentElement.scrollHeight <= innerHeight")


async def test_writing_may_be_forbidden(visit: Visit, server: ServerProcess) -> None:
    alice = await visit()
    await alice.sign_in("alice", "read-only", publish=[])
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text("Not sent. You are not allowed to write here.")
    await alice.outbox.get_by_role("button", name="Try again").click()
    await expect(alice.outbox).to_contain_text("Not sent.")
    await alice.outbox.get_by_role("button", name="Delete").click()
    await alice.sees([])


async def test_reading_may_be_forbidden(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "secret", subscribe=["room:other"])
    await expect(alice.page.get_by_role("alert")).to_contain_text(
        "#secret: You are not allowed to read here. Your token allows \u2068#other\u2069."
    )


async def test_a_message_may_be_too_long(visit: Visit) -> None:
    alice = await visit("alice", "lengths")
    await alice.say("ü" * 40_000)
    await expect(alice.outbox).to_contain_text("Not sent. The message is too long.")
    await alice.say("short")
    await expect(alice.log.locator(".text")).to_have_text(["short"])
    await alice.online()
