"""Names: mentions show them, and those that are alike are told apart."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.test_accessibility import assert_clean

EVIL = "<img src=x onerror=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser, server: ServerProcess) -> AsyncIterator[Page]:
    """A page of the server, whose modules may be tried."""
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(server.url)
        yield page


async def test_mentions_show_names(visit: Visit, server: ServerProcess) -> None:
    async with (
        connect(server.url, token=mint("u-1", name=f"Ann {EVIL}\u202e\n@all")) as ann,
        connect(server.url, token=mint("\u05d1.2", name="\u05d1\u05df")) as ben,
    ):
        await ann.publish("room:mentioned", {"text": "hi @U-1 and @\u05d1.2, @u-11, a@u-1 `@u-1`"})
        alice = await visit("alice", "mentioned")
        name = f"@Ann {EVIL}\ufffd @all"
        rest = "@u-11, a@u-1 @u-1"
        await alice.sees([f"hi {name} and @\u05d1.2, {rest}"])
        # As soon as a name is known it is shown, in what is there already.
        await ben.publish("room:mentioned", {"text": "no more"})
        await alice.sees([f"hi {name} and @\u05d1\u05df, {rest}", "no more"])
        mentions = alice.log.first.locator(".text bdi")
        await expect(mentions).to_have_count(2)
        await expect(mentions.first).to_have_attribute("title", "u-1")
        await expect(mentions.last).to_have_attribute("title", "\u05d1.2")
        await assert_clean(alice.page)
        await alice.say("@u-1: ok")
        await expect(alice.log.last.locator("bdi").last).to_have_text(name)
    async with connect(server.url, token=mint("u-3", name=f"Ann {EVIL}\u202e\n@all")) as other:
        await other.publish("room:mentioned", {"text": "me too"})
        await expect(mentions.first).to_have_text(f"{name} (u-1)")
    assert await alice.page.locator("img").count() == 0


async def test_two_of_one_name_are_told_apart(visit: Visit, server: ServerProcess) -> None:
    async with (
        connect(server.url, token=mint("ann-1", name="Ann")) as one,
        connect(server.url, token=mint("ann-2", name="Ann")) as other,
    ):
        await one.publish("room:namesakes", {"text": "before"})
        alice = await visit("alice", "namesakes")
        await alice.sees(["before"])
        heads = alice.log.locator(".head bdi")
        await expect(heads).to_have_text(["Ann"])
        await other.publish("room:namesakes", {"text": "another"})
        await alice.sees(["before", "another"])
        await expect(heads).to_have_text(["Ann", "ann-1", "Ann", "ann-2"])
        await assert_clean(alice.page)


async def test_two_whose_names_look_alike_are_told_apart(
    visit: Visit, server: ServerProcess
) -> None:
    alike = "\u0410li\u0441\u0435"  # in which three letters are Cyrillic
    async with (
        connect(server.url, token=mint("a-1", name="Alice")) as one,
        connect(server.url, token=mint("a-2", name=alike)) as other,
        connect(server.url, token=mint("\u0435ve")) as eve,
        connect(server.url, token=mint("a-3", name="Alicia")) as third,
    ):
        for publisher in (one, third):
            await publisher.publish("room:alike", {"text": "hello"})
        bob, ben = await visit("bob", "alike"), await visit("eve", "alike")
        heads = bob.log.locator(".head bdi")
        await expect(heads).to_have_text(["Alice", "Alicia"])
        await other.publish("room:alike", {"text": "hello"})
        await expect(heads).to_have_text(["Alice", "a-1", "Alicia", alike, "a-2"])
        # Where the ids look alike, too, what is foreign in them is spelled.
        await eve.publish("room:alike", {"text": "@a-2"})
        await ben.say("I am Eve")
        await expect(heads).to_have_text(
            [*("Alice", "a-1", "Alicia", alike, "a-2"), "\u0435ve", "[U+0435]ve", "eve", "eve"]
        )
        await expect(bob.log.nth(3).locator(".text bdi")).to_have_text(f"@{alike} (a-2)")
        await assert_clean(bob.page)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Alice", "\u0391lice", True),  # Greek
        ("Alice", "AIice", True),  # with a capital i
        ("Cope", "\u0421\u043e\u0440\u0435", True),  # all Cyrillic
        ("BOB", "B0B ", True),
        ("Amy", "A\u200dmy", True),  # with a joiner, which nobody sees
        ("Amy", "Arny", True),
        ("Ben", "\uff22en", True),  # in full width
        ("Eva", "\u00c9va", False),
        ("Ivan", "\u0418\u0432\u0430\u043d", False),
        ("alice", "Alice", False),
    ],
)
async def test_what_looks_alike(page: Page, one: str, other: str, alike: bool) -> None:
    same = await page.evaluate(
        """async (names) => {
          const { skeleton } = await import("/static/lookalikes.js");
          return new Set(names.map(skeleton)).size === 1;
        }""",
        [one, other],
    )
    assert same is alike
