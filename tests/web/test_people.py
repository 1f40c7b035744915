"""Who is here, who types, who has read; mentions, and what tells of them."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from chat_server.client import connect
from tests.rig.preloaded import PreloadedServer
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import GENEROUS, Visit, running
from tests.web.test_accessibility import assert_clean
from tests.web.test_history import HIDE

SOCIAL = {
    **GENEROUS,
    "CHAT_NAMESPACES__ROOM__PRESENCE": "true",
    "CHAT_NAMESPACES__ROOM__PRESENCE_GRACE_SECONDS": "0.2",
    "CHAT_NAMESPACES__ROOM__READ_RECEIPTS": "true",
}
EVIL = "<img src=x onerror=alert(1)>"
COUNTED = """() => {
  window.shown = [];
  window.Notification = new Proxy(Notification, {
    construct(real, given) {
      const one = new real(...given);
      one.addEventListener("show", () => window.shown.push(one));
      return one;
    },
  });
}"""
"""Remember the browser's own notifications, once they are shown."""
PRESS = """() => new Promise((done) => {
  const [one] = window.shown;
  one.addEventListener("close", () => done());
  one.dispatchEvent(new Event("click"));
})"""
"""Press the first of them, and wait until the browser has taken it away."""
NOTIFY = """() => {
  window.notified = [];
  window.Notification = class extends EventTarget {
    static permission = "default";
    static async requestPermission() {
      Notification.permission = "granted";
      return "granted";
    }
    constructor(title, { body }) {
      super();
      window.notified.push([title, body, this]);
    }
    close() {}
  };
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server whose rooms tell who is there and what is read."""
    with PreloadedServer(environ=SOCIAL) as started:
        yield started


async def test_who_is_here_types_and_has_read(visit: Visit, server: ServerProcess) -> None:
    alice, bob = await visit("alice", "team"), await visit("bob", "team")
    here = alice.page.get_by_role("button", name="2 here")
    await here.click()
    people = alice.page.get_by_role("group", name="Who is here")
    await expect(people.get_by_role("listitem")).to_have_text(["alice", "bob"])
    await assert_clean(alice.page)
    await alice.page.keyboard.press("Escape")
    await bob.field.press_sequentially("hel")
    await expect(alice.page.get_by_text("is typing…")).to_have_text("\u2068bob\u2069 is typing…")
    await bob.field.press("Enter")
    await expect(alice.page.locator("#typing")).to_be_hidden()
    await expect(bob.page.locator("#seen")).to_have_text("Read by \u2068alice\u2069")
    await alice.say("seen")
    await expect(bob.page.locator("#seen")).to_be_hidden()
    async with (
        connect(server.url, token=mint("bob2", name="bob")) as other,
        other.subscribe("room:team"),
    ):
        await expect(alice.page.get_by_role("button", name="3 here")).to_be_visible()
        await other.publish("room:team", {"text": EVIL})
        await alice.page.get_by_role("button", name="3 here").click()
        await expect(people.get_by_role("listitem")).to_have_text(["alice", "bob", "bob (bob2)"])
    await expect(alice.page.get_by_role("button", name="2 here")).to_be_visible()
    assert await alice.page.locator("img").count() == 0


async def read(server: ServerProcess, room: str, seq: int, user: str) -> None:
    """Let somebody read who is neither in the room nor has written there."""
    async with connect(server.url, token=mint(user)) as reader:
        await reader.read(f"room:{room}", seq)


async def test_who_has_read_before_is_told_at_once(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "before")
    await alice.say("hello")
    await alice.sees(["hello"])
    seen = alice.page.locator("#seen")
    async with connect(server.url, token=mint("u-9", name=f"Ben{EVIL}\u202e\n")) as ben:
        await ben.publish("room:elsewhere", {"text": "hi"})
        await ben.read("room:before", 1)
        await expect(seen).to_have_text("Read by \u2068u-9\u2069")
        await alice.page.reload()
        await expect(seen).to_have_text("Read by \u2068u-9\u2069")
        # Of another room the page asks when that is shown, and knows the names there.
        await ben.publish("room:other", {"text": "hello"})
        await alice.go("other")
        await alice.sees(["hello"])
        await alice.say("and you?")
        await alice.sees(["hello", "and you?"])
        # A name that is known from one room is known in all.
        await alice.go("before")
        name = f"\u2068Ben{EVIL}\ufffd \u2069"
        await expect(seen).to_have_text(f"Read by {name}")
        await ben.read("room:other", 2)
        await alice.go("other")
        await expect(seen).to_have_text(f"Read by {name}")
        await alice.page.reload()
        await expect(seen).to_have_text(f"Read by {name}")
    assert await alice.page.locator("img").count() == 0


async def test_what_is_read_while_the_connection_is_lost_is_told_behind(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "away")
    await alice.say("hello")
    await alice.sees(["hello"])
    await alice.page.context.set_offline(True)
    await alice.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    await expect(alice.page.get_by_role("button", name="Try now")).to_be_visible()
    await read(server, "away", 1, "ben")
    await alice.page.context.set_offline(False)
    await alice.online()
    await expect(alice.page.locator("#seen")).to_have_text("Read by \u2068ben\u2069")


async def test_who_has_read_stands_above_what_is_not_sent(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "order")
    await alice.say("stored")
    await alice.sees(["stored"])
    await read(server, "order", 1, "ben")
    seen = alice.page.locator("#seen")
    await expect(seen).to_have_text("Read by \u2068ben\u2069")
    await alice.page.context.set_offline(True)
    await alice.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    await expect(alice.page.get_by_role("button", name="Try now")).to_be_visible()
    await alice.say("waits")
    await expect(alice.outbox).to_contain_text("Sending…")
    places = [await part.bounding_box() for part in (alice.log, seen, alice.outbox)]
    tops = [place["y"] for place in places if place is not None]
    assert len(tops) == 3
    assert tops == sorted(tops)
    await alice.page.context.set_offline(False)
    await alice.sees(["stored", "waits"])


async def test_where_nobody_is_told_the_page_asks_in_vain(visit: Visit) -> None:
    async with running(
        environ={**GENEROUS, "CHAT_NAMESPACES__ROOM__READ_RECEIPTS": "false"}
    ) as quiet:
        alice = await visit("alice", "quiet", at=quiet)
        await alice.say("hello")
        await alice.sees(["hello"])
        await read(quiet, "quiet", 1, "ben")
        await alice.page.reload()
        await alice.sees(["hello"])
        await expect(alice.page.locator("#seen")).to_be_hidden()


async def test_a_name_that_is_written_out_mentions(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "named")
    async with (
        connect(server.url, token=mint("u-21", name="Bob B.")) as bob,
        connect(server.url, token=mint("u-22", name="Ann")) as ann,
        connect(server.url, token=mint("u-23", name="Ann Smith")) as smith,
        connect(server.url, token=mint("carl")) as carl,
    ):
        for one in (bob, ann, smith, carl):
            await one.publish("room:named", {"text": "I am here"})
        await expect(alice.log).to_have_count(4)
    for written, sent in (
        ("hi @bob b. and @Ann Smith, hello", "hi @u-21 and @u-23, hello"),
        ("@carl and @U-21 are mentioned", "@carl and @U-21 are mentioned"),
        # Which of the two is meant is not known yet, and an address mentions nobody.
        ("@Ann is@bob b. here", "@Ann is@bob b. here"),
    ):
        await alice.field.press_sequentially(written)
        await expect(alice.field).to_have_value(sent)
        await alice.field.fill("")


async def test_mentions_are_completed_and_told(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "mention")
    bob = await visit()
    await bob.sign_in("u-17", "mention", name="Bob B.")
    await bob.page.evaluate(NOTIFY)
    await bob.say("I am here")
    await alice.sees(["I am here"])
    await alice.field.press_sequentially("hi @bo")
    proposal = alice.page.get_by_role("option", name="Bob B.")
    await expect(proposal).to_have_attribute("aria-selected", "true")
    await assert_clean(alice.page)
    await bob.page.evaluate(HIDE, True)
    await alice.field.press("Tab")
    await expect(alice.field).to_have_value("hi @u-17 ")
    await alice.field.press("Enter")
    await expect(bob.page).to_have_title("(1) #mention")
    await expect(bob.page.locator("link[rel=icon]")).to_have_attribute(
        "href", "static/icon-unread.svg"
    )
    # The browser is asked once there is something that the user has missed.
    allow = bob.page.get_by_role("button", name="Yes, notify me")
    await expect(allow).to_be_visible()
    await assert_clean(bob.page)
    await bob.page.evaluate(HIDE, False)
    await expect(bob.page).to_have_title("#mention")
    await allow.click()
    await expect(allow).to_be_hidden()
    await bob.page.evaluate(HIDE, True)
    await alice.say("nobody in particular")
    await alice.field.fill("")
    await alice.field.press_sequentially("@u-17")
    await expect(alice.page.get_by_role("option")).to_have_count(0)
    await alice.say("> as said\n@U-17 again, alone")
    await bob.page.wait_for_function("() => window.notified.length > 0")
    told = await bob.page.evaluate("() => window.notified.map(([title, body]) => [title, body])")
    assert told == [["alice in #mention", "@Bob B. again, alone"]]
    await expect(bob.log).to_have_count(4)
    for at, visitor, classes in ((1, bob, "message mentioned"), (1, alice, "message own")):
        await expect(visitor.log.nth(at)).to_have_class(classes)
    await bob.page.evaluate("() => window.notified[0][2].dispatchEvent(new Event('click'))")
    await bob.page.wait_for_function("() => location.hash.includes('seq=')")
    await bob.page.evaluate(HIDE, False)


async def test_the_browser_itself_shows_a_notification(
    visit: Visit, server: ServerProcess, whole_browser: Browser
) -> None:
    alice = await visit("alice", "loud")
    bob = await visit("bob", "loud", using=whole_browser)
    assert await bob.page.evaluate("Notification.permission") == "default"
    await bob.page.context.grant_permissions(["notifications"], origin=server.url)
    await bob.page.evaluate(COUNTED)
    await alice.say("hello @bob, nobody is told who looks")
    await expect(bob.log).to_have_count(1)
    await bob.page.evaluate(HIDE, True)
    await alice.say("hello everybody")
    await alice.say("> said\n\n**Are** you there, @bob?")
    await bob.page.wait_for_function("() => window.shown.length > 0")
    shown = "window.shown.map(({ title, body, tag }) => [title, body, tag])"
    told = [["alice in #loud", "Are you there, @bob?", "room:loud"]]
    assert await bob.page.evaluate(shown) == told
    await expect(bob.page.locator("#notify")).to_be_hidden()
    # Headless, nobody can press it: the event alone is made here.
    await bob.page.evaluate(PRESS)
    await bob.page.wait_for_function("() => location.hash === '#room=loud&seq=3'")
    await bob.page.evaluate(HIDE, False)
