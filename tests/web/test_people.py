"""Who is here, who types, who has read; mentions, and what tells of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from chat_server.client import connect
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
READ_ONLY = "You may only read here"
ASKED = "Write a message as \u2068alice\u2069"
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def social() -> AsyncIterator[ServerProcess]:
    """A server whose rooms tell who is there and what is read."""
    async with running(environ=SOCIAL) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser, server: ServerProcess) -> AsyncIterator[Page]:
    """A page of the server, whose modules may be tried."""
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(server.url)
        yield page


async def test_who_is_here_types_and_has_read(visit: Visit, social: ServerProcess) -> None:
    alice, bob = await visit("alice", "team", at=social), await visit("bob", "team", at=social)
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
        connect(social.url, token=mint("bob2", name="bob")) as other,
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


async def test_who_has_read_before_is_told_at_once(visit: Visit, social: ServerProcess) -> None:
    alice = await visit("alice", "before", at=social)
    await alice.say("hello")
    await alice.sees(["hello"])
    seen = alice.page.locator("#seen")
    async with connect(social.url, token=mint("u-9", name=f"Ben{EVIL}\u202e\n")) as ben:
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
    visit: Visit, social: ServerProcess
) -> None:
    alice = await visit("alice", "away", at=social)
    await alice.say("hello")
    await alice.sees(["hello"])
    await alice.page.context.set_offline(True)
    await alice.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    await expect(alice.page.get_by_role("button", name="Try now")).to_be_visible()
    await read(social, "away", 1, "ben")
    await alice.page.context.set_offline(False)
    await alice.online()
    await expect(alice.page.locator("#seen")).to_have_text("Read by \u2068ben\u2069")


async def test_who_has_read_stands_above_what_is_not_sent(
    visit: Visit, social: ServerProcess
) -> None:
    alice = await visit("alice", "order", at=social)
    await alice.say("stored")
    await alice.sees(["stored"])
    await read(social, "order", 1, "ben")
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


async def test_where_nobody_is_told_the_page_asks_in_vain(
    visit: Visit, server: ServerProcess
) -> None:
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


async def test_where_presence_is_off_nobody_is_counted(visit: Visit) -> None:
    alice = await visit("alice", "unsocial")
    await alice.say("hello")
    await alice.sees(["hello"])
    await expect(alice.page.locator("#people-button")).to_be_hidden()


async def test_a_name_that_is_written_out_mentions(visit: Visit, social: ServerProcess) -> None:
    alice = await visit("alice", "named", at=social)
    async with (
        connect(social.url, token=mint("u-21", name="Bob B.")) as bob,
        connect(social.url, token=mint("u-22", name="Ann")) as ann,
        connect(social.url, token=mint("u-23", name="Ann Smith")) as smith,
        connect(social.url, token=mint("carl")) as carl,
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


async def test_mentions_are_completed_and_told(visit: Visit, social: ServerProcess) -> None:
    alice = await visit("alice", "mention", at=social)
    bob = await visit(at=social)
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
    visit: Visit, social: ServerProcess, whole_browser: Browser
) -> None:
    alice = await visit("alice", "loud", at=social)
    bob = await visit("bob", "loud", at=social, using=whole_browser)
    assert await bob.page.evaluate("Notification.permission") == "default"
    await bob.page.context.grant_permissions(["notifications"], origin=social.url)
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


async def test_who_may_not_write_is_told_where_one_writes(visit: Visit) -> None:
    # Of a token that names no rooms only the server knows.
    async with running(environ={"CHAT_AUTH__DEFAULT_TOPICS__PUBLISH": "[]"}) as server:
        alice = await visit("alice", "read-only", at=server)
        await expect(alice.field).to_have_attribute("placeholder", ASKED)
        await alice.say("may I?")
        await expect(alice.field).to_have_attribute("placeholder", READ_ONLY)
        await alice.outbox.get_by_role("button", name="Delete").click()
        await alice.go("other")
        await expect(alice.field).to_have_attribute("placeholder", ASKED)
        await alice.go("read-only")
        await expect(alice.field).to_have_attribute("placeholder", READ_ONLY)


async def test_whose_token_does_not_allow_to_write_is_told_before(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit()
    rights = {"subscribe": ["room:**"], "publish": ["room:*:{sub}", "room:open:**"]}
    await alice.sign_in("alice", "news", **rights)
    for room, told in (
        ("news", READ_ONLY),
        ("news:alice", ASKED),
        ("news:bob", READ_ONLY),
        ("a:b:alice", READ_ONLY),
        ("open", READ_ONLY),
        ("open:any:thing", ASKED),
    ):
        await alice.go(room)
        await expect(alice.field).to_have_attribute("placeholder", told)
    bob = await visit()
    await bob.sign_in("bob+test@example.org", "closed", subscribe=[], publish=["room:{sub}"])
    await expect(bob.field).to_have_attribute("placeholder", "You are not allowed to write here.")
    await bob.go("bob~2Btest@example.org")
    own = "Write a message as \u2068bob+test@example.org\u2069"
    await expect(bob.field).to_have_attribute("placeholder", own)


async def test_who_may_neither_read_nor_write_is_told_so(visit: Visit) -> None:
    alice = await visit()
    denied = "You are not allowed to write here."
    await alice.sign_in("alice", "closed", subscribe=[], publish=[])
    await expect(alice.page.locator("#room-error")).to_have_text(
        "#closed: You are not allowed to read here. Your token allows you to read nothing."
    )
    await expect(alice.field).to_have_attribute("placeholder", denied)
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text(f"Not sent. {denied} Try again")
    await expect(alice.field).to_have_attribute("placeholder", denied)
    await alice.outbox.get_by_role("button", name="Delete").click()


async def test_the_end_of_a_sign_in_is_told_before(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "ending", ttl_seconds=100)
    await expect(alice.page.locator("#ending")).to_contain_text("Your sign-in ends at")


async def test_one_may_try_to_connect_at_once(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "again", at=server)
        await alice.page.context.set_offline(True)
        retry = alice.page.get_by_role("button", name="Try now")
        await alice.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
        await expect(retry).to_be_visible()
        await alice.page.context.set_offline(False)
        await alice.online()
        await expect(retry).to_be_hidden()
