"""Edits, deletions and reactions that wait for the server are seen, and none is lost."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit, running
from tests.web.test_accessibility import assert_clean
from tests.web.test_message_actions import GONE, act
from tests.web.test_text import post
from tests.web.test_unsent import GUARDED, Line
from tests.web.visitor import Visitor

UNSURE = "This may have been sent: the connection broke before the server answered."
OFFLINE = "() => window.dispatchEvent(new Event('offline'))"


async def cut_off(visitor: Visitor) -> None:
    """Take the network away, and wait until the page has noticed."""
    await visitor.page.context.set_offline(True)
    await visitor.page.evaluate(OFFLINE)
    await expect(visitor.page.get_by_role("button", name="Try now")).to_be_visible()


async def test_changes_wait_in_sight(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "waits")
    await post(server, "waits", {"text": "shall we?"}, "eve", "Eve")
    await alice.sees(["shall we?"])
    await alice.say("helo")
    await alice.say("a mistake")
    await alice.sees(["shall we?", "helo", "a mistake"])
    note = alice.log.locator(".note")
    await expect(note).to_have_count(0)
    await cut_off(alice)
    await act(alice, alice.log.first, "👍")
    await act(alice, alice.log.nth(1), "Edit")
    await alice.field.fill("hello")
    await alice.field.press("Enter")
    await act(alice, alice.log.nth(2), "Delete")
    await alice.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(note).to_have_text(["Sending \u2068👍\u2069…", "Saving…", "Deleting…"])
    await expect(alice.page.locator("#announcer")).to_have_text("Deleting…")
    await expect(alice.log.locator(".text")).to_have_text(["shall we?", "hello", "a mistake"])
    # One writes on, and begins the next edit with the text that waits.
    await expect(alice.page.locator("#editing")).to_be_hidden()
    await expect(alice.field).to_have_value("")
    await alice.field.press("ArrowUp")
    await alice.page.get_by_role("button", name="Cancel").click()
    await act(alice, alice.log.nth(1), "Edit")
    await expect(alice.field).to_have_value("hello")
    await alice.page.get_by_role("button", name="Cancel").click()
    await expect(alice.log.nth(2)).to_have_class("message own continued pending")
    await assert_clean(alice.page)
    assert await alice.page.evaluate(GUARDED)
    # They wait as well while another room is shown.
    await alice.go("waits-other")
    await alice.go("waits")
    await expect(note).to_have_count(3)
    await alice.page.context.set_offline(False)
    await alice.online()
    await alice.sees(["shall we?", "hello", "deleted"])
    await expect(note).to_have_count(0)
    await expect(alice.log.locator(".pending")).to_have_count(0)
    await expect(alice.log.locator(".chip")).to_have_attribute("aria-pressed", "true")
    await alice.page.wait_for_function(f"() => !({GUARDED})()")


async def test_what_was_refused_is_told_and_its_text_kept(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "refusals")
    for text in ("one", "two", "three"):
        await alice.say(text)
    await alice.sees(["one", "two", "three"])
    await cut_off(alice)
    await act(alice, alice.log.nth(0), "Edit")
    await alice.field.fill("one, but better")
    await alice.field.press("Enter")
    await act(alice, alice.log.nth(1), "👍")
    await alice.field.fill("a draft")
    async with connect(server.url, token=mint("alice")) as other:
        for seq in (1, 2):
            await other.delete("room:refusals", seq)
    await alice.page.context.set_offline(False)
    await alice.online()
    await alice.sees(["deleted", "deleted", "three"])
    await expect(alice.page.locator("#composer-error")).to_have_text(GONE)
    await expect(alice.field).to_have_value("a draft\n\none, but better")
    refused = alice.log.locator(".note")
    reason = "This message is deleted. Close"
    await expect(refused).to_have_text(
        [f"Not saved. {reason}", f"\u2068👍\u2069 was not stored. {reason}"]
    )
    await expect(alice.page.locator("#told")).to_contain_text("was not stored.")
    await assert_clean(alice.page)
    for _ in range(2):
        await refused.get_by_role("button", name="Close").first.click()
    await expect(refused).to_have_count(0)


async def test_a_refused_edit_can_be_gone_on_with(visit: Visit) -> None:
    """Who was moved from a token that may write to one that may not."""
    alice = await visit("alice", "lost-right")
    for text in ("one", "two"):
        await alice.say(text)
    await alice.sees(["one", "two"])
    await refuse_edits(alice)
    await act(alice, alice.log.first, "Edit")
    await alice.field.fill("one, but better")
    await alice.field.press("Enter")
    # It comes back where nothing else is being written.
    error = alice.page.locator("#composer-error")
    told = "Not saved. You are not allowed to do this. (no more edits)"
    await expect(error).to_have_text(told)
    await expect(alice.field).to_have_value("one, but better")
    await expect(alice.page.locator("#told")).to_be_hidden()
    await expect(alice.page.locator("#editing")).to_be_visible()
    await alice.page.get_by_role("button", name="Cancel").click()
    await act(alice, alice.log.first, "Edit")
    await alice.field.fill("one, much better")
    await alice.page.evaluate("window.held = []")
    await alice.field.press("Enter")
    await alice.field.fill("a draft")
    await alice.page.evaluate("() => { window.held.forEach((go) => go()); window.held = null; }")
    await expect(error).to_have_text(told)
    await expect(alice.field).to_have_value("a draft")
    note = alice.log.first.locator(".note")
    await expect(note).to_have_text(f"{told} Edit Close")
    await note.get_by_role("button", name="Edit").click()
    await expect(alice.field).to_have_value("one, much better")
    # A reload takes neither of them away.
    await alice.page.reload()
    await alice.online()
    await expect(alice.field).to_have_value("one, much better")
    await alice.field.press("Enter")
    await expect(alice.field).to_have_value("a draft")
    await alice.sees(["one, much better", "two"])


@pytest.mark.parametrize(
    ("error", "note"),
    [
        ({"code": "internal", "mayBeSent": True}, UNSURE),
        ({"code": "gone", "mayBeSent": True}, "Not saved. This message is deleted."),
        ({"code": "too_large", "mayBeSent": False}, "Not saved. The message is too long."),
    ],
)
async def test_what_may_be_stored_is_not_called_unsaved(
    visit: Visit, error: dict[str, Any], note: str
) -> None:
    visitor = await visit()
    told = await visitor.page.evaluate(
        """async (error) => {
          const { refusal } = await import("/static/changes.js");
          return refusal(error, "Not saved.");
        }""",
        error,
    )
    assert told == note


async def refuse_edits(visitor: Visitor) -> None:
    """Let the page's client refuse edits, until the page is loaded anew."""
    await visitor.page.evaluate(
        """async () => {
          const { ChatClient, ChatError } = await import("/static/client.js");
          ChatClient.prototype.edit = async () => {
            if (window.held) await new Promise((done) => window.held.push(done));
            throw new ChatError("forbidden", "no more edits");
          };
        }"""
    )


async def test_a_reload_keeps_edits_that_were_not_sent(visit: Visit) -> None:
    line = Line()
    async with running() as server:
        alice = await visit(at=server)
        await alice.page.route_web_socket("**/ws", line.carry)
        await alice.sign_in("alice", "unsaved")
        for text in ("one", "two"):
            await alice.say(text)
        await alice.sees(["one", "two"])
        line.down = True
        await asyncio.to_thread(server.stop)
        await expect(alice.state).to_contain_text("Reconnecting")
        for index, text in enumerate(("one!", "two!")):
            await act(alice, alice.log.nth(index), "Edit")
            await alice.field.fill(text)
            await alice.field.press("Enter")
        await expect(alice.log.locator(".note")).to_have_text(["Saving…", "Saving…"])
        alice.page.on("dialog", lambda dialog: asyncio.create_task(dialog.accept()))
        await asyncio.to_thread(server.start)
        await alice.page.reload()
        # One after the other is to be saved.
        for text in ("two!", "one!"):
            await expect(alice.field).to_have_value(text)
            await alice.field.press("Enter")
        await expect(alice.field).to_have_value("")
