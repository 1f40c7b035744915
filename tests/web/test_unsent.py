"""What a visitor wrote is not lost, and not sent twice without asking."""

import asyncio
import json
from typing import Any

from playwright.async_api import WebSocketRoute, expect

from tests.rig.server import mint
from tests.web.conftest import Visit, running
from tests.web.visitor import Visitor

WINDOW_SECONDS = 1.0
PUBLISHED = ('"duplicate"', '"type":"message"')
"""What the frames have that tell of a publication."""
GUARDED = """() => {
  const event = new Event("beforeunload", { cancelable: true });
  window.dispatchEvent(event);
  return event.defaultPrevented;
}"""
TOO_MANY = """async () => {
  const { Texts, Unsent } = await import("/static/storage.js");
  const kept = new Map();
  const storage = {
    get: (key) => kept.get(key) ?? null,
    set: (key, value) => kept.set(key, value),
    remove: (key) => kept.delete(key),
    keys: () => [...kept.keys()],
  };
  const texts = new Texts(storage);
  let messages = 0;
  for (; messages < 500 && texts.hasSpace("x"); messages += 1) {
    texts.put(new Unsent("alice", `room-${messages % 7}`, "x"));
  }
  for (let room = 0; room < 500; room += 1) texts.setDraft("alice", `draft-${room}`, "y");
  const again = new Texts(storage);
  return {
    messages,
    long: new Texts({ ...storage, keys: () => [] }).hasSpace("x".repeat(2_000_000)),
    places: kept.size,
    unsent: again.unsent("alice").map(({ state }) => state),
    last: again.draft("alice", "draft-499"),
  };
}"""
FULL = """() => {
  const { setItem } = Storage.prototype;
  Storage.prototype.setItem = function (key, value) {
    if (value.length > 10) throw new DOMException("There is no space.", "QuotaExceededError");
    setItem.call(this, key, value);
  };
}"""
COPIES = """() => navigator.locks.request("chat.copy:", () =>
  Object.keys(localStorage).filter((key) => key.startsWith("chat.copy:")).length)"""
"""How many texts are kept beyond their tabs, once a new tab has taken what it takes."""
WRITE_MANY = """() => {
  const [text, form] = ["text", "composer"].map((id) => document.getElementById(id));
  for (let count = 0; count <= 100; count += 1) {
    text.value = `m${count}`;
    form.requestSubmit();
  }
}"""


class Line:
    """The WebSocket of a page, which loses answers when a test says so.

    Attributes:
        losing: whether what answers a publication is lost, with the connection.
        down: whether no connection comes about.
        refusal: the error that answers publications in place of the server.
    """

    def __init__(self) -> None:
        self.losing = False
        self.down = False
        self.refusal: dict[str, Any] | None = None

    async def carry(self, route: WebSocketRoute) -> None:
        """Carry messages between the page and the server."""
        if self.down:
            await route.close(code=3000, reason="down")
            return
        server = route.connect_to_server()
        refused: dict[int, dict[str, Any]] = {}

        def on_message(message: str | bytes) -> None:
            command = json.loads(message)
            if self.refusal is not None and command["type"] == "publish":
                # The server refuses another command in its turn: an answer that came earlier than
                # those of the commands before it would be a lost answer to the page.
                refused[command["id"]] = {**self.refusal, "type": "error", "id": command["id"]}
                message = json.dumps({"type": "unsubscribe", "topic": "", "id": command["id"]})
            server.send(message)

        async def on_answer(message: str | bytes) -> None:
            if self.losing and any(part in str(message) for part in PUBLISHED):
                self.down = True
            if self.down:
                await route.close(code=3000, reason="lost")
            else:
                refusal = refused.pop(json.loads(message).get("id"), None)
                route.send(message if refusal is None else json.dumps(refusal))

        route.on_message(on_message)
        server.on_message(on_answer)


async def test_nobody_knows_whether_it_was_sent(visit: Visit) -> None:
    """The answer is lost, the server forgets the key, and history may not be read."""
    environ = {"CHAT_BROKER__IDEMPOTENCY_SECONDS": str(WINDOW_SECONDS)}
    line = Line()
    async with running(environ=environ) as server:
        alice = await visit(at=server)
        await alice.page.route_web_socket("**/ws", line.carry)
        await alice.sign_in("alice", "unsure", subscribe=["**"], publish=["**"], history=[])
        await expect(alice.page.locator("#empty")).to_contain_text("New messages appear here")
        for text, choice in (("once", "Discard"), ("twice", "Send again")):
            line.losing = True
            await alice.say(text)
            await expect(alice.state).to_contain_text("Reconnecting")
            await asyncio.sleep(1.5 * WINDOW_SECONDS)  # in which the server forgets the key
            line.losing = line.down = False
            await expect(alice.outbox).to_contain_text("This may have been sent")
            await expect(alice.outbox.get_by_role("button")).to_have_text(["Send again", "Discard"])
            await alice.outbox.get_by_role("button", name=choice).click()
        await alice.sees(["once", "twice", "twice"])


async def test_an_expired_sign_in_is_told_and_loses_no_text(visit: Visit) -> None:
    line = Line()
    alice = await visit()
    await alice.page.route_web_socket("**/ws", line.carry)
    await alice.sign_in("alice", "expiry")
    await alice.go("other")
    await alice.field.fill("a draft")
    await alice.go("expiry")
    line.refusal = {"code": "unauthorized", "message": "the token has expired"}
    await alice.say("too late")
    told = alice.page.get_by_role("alert")
    await expect(told).to_contain_text("sign-in has expired")
    await expect(told).to_contain_text("What you have not sent is kept")
    assert await alice.page.evaluate(GUARDED)
    line.refusal = None
    await alice.enter(mint("bob"))
    await alice.sees([])
    await alice.page.get_by_role("button", name="Sign out").click()
    await alice.enter(mint("alice"))
    await expect(alice.outbox).to_contain_text("Not sent. Your sign-in has expired")
    await alice.outbox.get_by_role("button", name="Try again").click()
    await alice.sees(["too late"])
    await alice.go("other")
    await expect(alice.field).to_have_value("a draft")


async def test_an_application_says_why_it_refuses(visit: Visit) -> None:
    line = Line()
    alice = await visit()
    await alice.page.route_web_socket("**/ws", line.carry)
    await alice.sign_in("alice", "refused")
    line.refusal = {"code": "forbidden", "message": "no adverts here"}
    await alice.say("buy this")
    told = "Not sent. You are not allowed to write here. (no adverts here) Try again"
    await expect(alice.outbox).to_contain_text(told)
    # The next message may be another matter.
    await expect(alice.field).not_to_have_attribute("placeholder", "You may only read here")
    line.refusal = None
    await alice.outbox.get_by_role("button", name="Try again").click()
    await alice.sees(["buy this"])


async def test_a_draft_belongs_to_its_room(visit: Visit) -> None:
    alice = await visit("alice", "draft-one")
    await alice.field.fill("for one")
    await alice.go("draft-two")
    await expect(alice.field).to_have_value("")
    await alice.field.fill("for two")
    await alice.page.reload()
    await alice.online()
    await expect(alice.field).to_have_value("for two")
    await alice.go("draft-one")
    await expect(alice.field).to_have_value("for one")
    await alice.field.press("Enter")
    await alice.sees(["for one"])
    await alice.go("draft-two")
    await alice.go("draft-one")
    await expect(alice.field).to_have_value("")


async def test_unsent_messages_of_another_room_are_within_reach(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "left", at=server)
        assert not await alice.page.evaluate(GUARDED)
        await asyncio.to_thread(server.stop)
        await alice.say("waits")
        await alice.go("next")
        assert await alice.page.evaluate(GUARDED)
        elsewhere = alice.page.get_by_role("button", name="1 not sent in #left")
        await elsewhere.click()
        await expect(alice.outbox).to_contain_text("waits")
        await alice.go("next")
        await asyncio.to_thread(server.start)
        await expect(elsewhere).to_have_count(0)
        # The message is on its way for a moment.
        await alice.page.wait_for_function(f"() => !({GUARDED})()")
        await alice.go("left")
        await alice.sees(["waits"])


async def test_a_reload_keeps_what_was_not_sent(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "reload", at=server)
        line = Line()
        await alice.page.route_web_socket("**/ws", line.carry)
        line.down = True
        await alice.page.reload()
        await alice.say("written before")
        alice.page.on("dialog", lambda dialog: asyncio.create_task(dialog.accept()))
        line.down = False
        await alice.page.reload()
        await alice.online()
        await expect(alice.outbox).to_contain_text("written before")
        await expect(alice.outbox).to_contain_text("This may have been sent")
        await alice.outbox.get_by_role("button", name="Send again").click()
        await alice.sees(["written before"])


async def another_tab(visitor: Visitor) -> Visitor:
    """Open another tab of the same browser."""
    return Visitor(await visitor.page.context.new_page(), visitor.url)


async def test_what_was_written_outlives_its_tab(visit: Visit) -> None:
    first = await visit()
    await first.sign_in("alice", "outlive", publish=[])
    await first.say("not sent")
    await expect(first.outbox).to_contain_text("Not sent.")
    await first.field.fill("half a message")
    second = await another_tab(first)
    await second.sign_in("alice", "outlive", publish=[])
    assert await second.page.evaluate(COPIES) == 1
    # Its tab lives.
    await expect(second.field).to_have_value("")
    await first.page.close()
    stranger = await another_tab(second)
    await stranger.sign_in("bob", "outlive", publish=[])
    assert await stranger.page.evaluate(COPIES) == 1
    await expect(stranger.field).to_have_value("")
    third = await another_tab(second)
    await third.sign_in("alice", "outlive", publish=[])
    await expect(third.field).to_have_value("half a message")
    await expect(third.outbox).to_contain_text("not sent")
    # It is sent when somebody wants that, and then it is nowhere any more.
    await third.outbox.get_by_role("button", name="Delete").click()
    await third.field.fill("")
    assert await third.page.evaluate(COPIES) == 0
    await expect(second.field).to_have_value("")


async def test_a_draft_of_an_ended_tab_replaces_no_other(visit: Visit) -> None:
    first = await visit("alice", "two-drafts")
    await first.field.fill("the older one")
    second = await another_tab(first)
    await second.sign_in("alice", "two-drafts")
    await second.field.fill("the newer one")
    await first.page.close()
    await second.page.reload()
    await second.online()
    assert await second.page.evaluate(COPIES) == 2
    await expect(second.field).to_have_value("the newer one")
    await second.page.get_by_role("button", name="Sign out", exact=True).click()
    question = second.page.get_by_role("dialog")
    await expect(question).to_contain_text("2 messages are not sent yet.")
    await question.get_by_role("button", name="Delete and sign out").click()
    await expect(second.page.locator("#sign-in")).to_be_visible()
    assert await second.page.evaluate(COPIES) == 0


async def test_who_signs_out_is_asked_about_unsent_messages(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "asked", publish=[])
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text("Not sent.")
    await alice.page.get_by_role("button", name="Sign out", exact=True).click()
    question = alice.page.get_by_role("dialog")
    await expect(question).to_contain_text("A message is not sent yet.")
    await question.get_by_role("button", name="Stay").click()
    await expect(alice.outbox).to_contain_text("may I?")
    await alice.page.get_by_role("button", name="Sign out", exact=True).click()
    await question.get_by_role("button", name="Delete and sign out").click()
    await expect(alice.page.locator("#sign-in")).to_be_visible()
    assert await alice.page.evaluate("Object.keys(sessionStorage).sort()") == [
        "chat.room",
        "chat.tab",
    ]
    assert await alice.page.evaluate(COPIES) == 0
    assert not await alice.page.evaluate(GUARDED)


async def test_what_is_kept_has_a_bound(visit: Visit) -> None:
    visitor = await visit()
    kept = await visitor.page.evaluate(TOO_MANY)
    assert kept["messages"] == 100
    assert kept["long"] is False
    assert kept["places"] <= 100
    assert kept["unsent"] == ["unsure"] * 100
    assert kept["last"] == "y"


async def test_without_space_the_text_stays_where_it_is(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "full", publish=[])
    await alice.page.evaluate(WRITE_MANY)
    await expect(alice.page.get_by_role("alert")).to_contain_text("Too many messages")
    await expect(alice.field).to_have_value("m100")
    await expect(alice.outbox).to_have_count(100)


async def test_who_signs_out_is_asked_about_drafts_of_all_rooms(visit: Visit) -> None:
    alice = await visit("alice", "draft-here")
    await alice.field.fill("for here")
    await alice.go("draft-blank")
    await alice.field.fill("  ")
    await alice.go("draft-there")
    await alice.field.fill("for there")
    leave = alice.page.get_by_role("button", name="Sign out", exact=True)
    await leave.click()
    question = alice.page.get_by_role("dialog")
    await expect(question).to_contain_text("2 messages are not sent yet.")
    await question.get_by_role("button", name="Stay").click()
    await alice.go("draft-here")
    await expect(alice.field).to_have_value("for here")


async def test_full_storage_is_told_of_while_it_holds_something_back(visit: Visit) -> None:
    alice = await visit("alice", "crowded")
    notice = alice.page.get_by_text("will be gone after a reload")
    await expect(notice).to_be_hidden()
    await alice.page.evaluate(FULL)
    await alice.field.fill("a text that finds no space")
    await expect(notice).to_be_visible()
    await alice.field.fill("")
    await expect(notice).to_be_hidden()


async def test_full_storage_brings_no_older_user_back(visit: Visit) -> None:
    alice = await visit("alice", "older")
    await alice.page.evaluate(FULL)
    await alice.page.get_by_role("button", name="Sign out", exact=True).click()
    await alice.page.evaluate("sessionStorage.setItem('chat.token', 'older')")
    await alice.enter(mint("bob"))
    await alice.online()
    assert await alice.page.evaluate("sessionStorage.getItem('chat.token')") is None
    await alice.page.reload()
    await expect(alice.page.get_by_label("Token")).to_be_visible()


async def test_the_keyboard_stays_with_messages_that_were_not_sent(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "keyboard", publish=[])
    for text in ("first", "second", "third"):
        await alice.say(text)
    drops = alice.outbox.get_by_role("button", name="Delete")
    await expect(drops).to_have_count(3)
    await drops.nth(1).press("Enter")
    await expect(alice.outbox.locator(".text")).to_have_text(["first", "third"])
    await expect(drops.nth(1)).to_be_focused()
    await alice.page.keyboard.press("Enter")
    await expect(drops).to_be_focused()
    await alice.outbox.get_by_role("button", name="Try again").press("Enter")
    await expect(alice.field).to_be_focused()
    await drops.press("Enter")
    await expect(alice.outbox).to_have_count(0)
    await expect(alice.field).to_be_focused()
