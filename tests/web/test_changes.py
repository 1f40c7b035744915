"""Messages that are edited, grow, are deleted and reacted to, on the page."""

import asyncio
import json
import re
import urllib.request
from typing import Any

from playwright.async_api import expect

from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

EVIL = "<img src=x onerror=alert(1)>"


async def _call(
    server: ServerProcess, method: str, path: str, body: Any = None, room: str = "changes"
) -> Any:
    """Call the HTTP surface for bob, in a room of his own."""
    request = urllib.request.Request(
        f"{server.url}/api/topics/room:{room}/messages{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {mint('bob')}"},
        method=method,
    )

    def send() -> Any:
        with urllib.request.urlopen(request, timeout=90) as response:
            return json.load(response)

    return await asyncio.to_thread(send)


async def test_the_page_shows_what_becomes_of_messages(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "changes")
    for text in ("first", "second", "third"):
        grows = {"state": "streaming"} if text == "second" else {}
        await _call(server, "POST", "", {"data": {"text": text}, **grows})
    await alice.sees(["first", "second", "third"])
    await _call(server, "PATCH", "/1", {"data": {"text": EVIL}})
    await _call(server, "POST", "/2/append", {"text": " and"})
    # What grows is not read out before it is whole.
    await expect(alice.page.locator("#log > [aria-busy]")).to_have_text([re.compile("second and")])
    await _call(server, "POST", "/2/append", {"text": f" {EVIL}", "state": "complete"})
    await expect(alice.page.locator("#log > [aria-busy]")).to_have_count(0)
    await _call(server, "POST", "/2/reactions", {"emoji": "👍"})
    await _call(server, "POST", "/1/reactions", {"emoji": "🎉"})
    await _call(server, "DELETE", "/3")
    shown = [EVIL, f"second and {EVIL}", "deleted"]
    await alice.sees(shown)
    reactions = alice.log.locator(".reactions")
    await expect(reactions).to_have_text(["\u2068🎉\u2069 1", "\u2068👍\u2069 1"])
    await expect(alice.log.get_by_text("edited", exact=True)).to_have_count(1)
    await expect(alice.page.locator("img")).to_have_count(0)
    # Of messages by one person in a row only the first bears a name, also when it has changed.
    await expect(alice.page.locator("#log > .message.continued")).to_have_count(2)

    late = await visit("carol", "changes")
    await late.sees(shown)
    await expect(late.log.locator(".reactions")).to_have_text(
        ["\u2068🎉\u2069 1", "\u2068👍\u2069 1"]
    )
    await alice.say("and from me")
    await alice.sees([*shown, "and from me"])
    await late.sees([*shown, "and from me"])


SELECT = """(word) => {
  window.rows = [...document.querySelectorAll("#log > .message")];
  const text = window.rows[0].querySelector(".text").firstChild;
  const range = document.createRange();
  range.setStart(text, text.data.indexOf(word));
  range.setEnd(text, text.data.indexOf(word) + word.length);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  window.added = [];
  const elements = (nodes) => [...nodes].filter((node) => node.nodeType === 1);
  const seen = (mutations) => {
    const added = mutations.flatMap(({ addedNodes }) => elements(addedNodes));
    window.added.push(...added.filter((node) => !node.closest("[aria-live=off]")));
  };
  const log = document.querySelector("#log");
  new MutationObserver(seen).observe(log, { childList: true, subtree: true });
}"""
"""Select a word of the first message, remember the nodes, and note elements that are read out."""

STILL = """() => {
  const rows = [...document.querySelectorAll("#log > .message")];
  const same = rows.length === window.rows.length && rows.every((row, i) => row === window.rows[i]);
  return [same, getSelection().toString(), window.added.map(({ outerHTML }) => outerHTML)];
}"""


async def test_a_message_that_changes_keeps_its_nodes_and_the_selection_in_it(
    visit: Visit, server: ServerProcess
) -> None:
    room = "nodes"
    alice = await visit("alice", room)
    for text in ("one chosen word", "x" * 20_000):
        data = {"data": {"text": text}, "state": "streaming"}
        await _call(server, "POST", "", data, room)
    button = alice.log.get_by_role("button", name="Show all 20,000 characters")
    await button.focus()
    await alice.page.evaluate(SELECT, "chosen")
    for number in (1, 2):
        await _call(server, "POST", f"/{number}/append", {"text": ", grown"}, room)
        await _call(server, "POST", f"/{number}/reactions", {"emoji": "👍"}, room)
        await _call(server, "POST", f"/{number}/reactions", {"emoji": "🎉"}, room)
        await _call(server, "POST", f"/{number}/append", {"text": "", "state": "complete"}, room)
    edit = {"data": {"text": "at last: one chosen word, grown"}}
    await _call(server, "PATCH", "/1", edit, room)
    await expect(alice.log.locator(".text").first).to_have_text("at last: one chosen word, grown")
    await expect(alice.log.locator(".reactions")).to_have_text([re.compile("👍.* 1.*🎉")] * 2)
    await expect(alice.log.get_by_text("edited", exact=True)).to_have_count(1)
    assert await alice.page.evaluate(STILL) == [True, "chosen", []]
    # The keyboard is where it was, and what is shown in full stays so.
    more = alice.log.get_by_role("button", name="Show all 20,007 characters")
    await expect(more).to_be_focused()
    await more.press("Enter")
    await _call(server, "PATCH", "/2", {"data": {"text": "y" * 30_000}}, room)
    less = alice.log.get_by_role("button", name="Show less")
    await expect(alice.log.locator(".text").nth(1)).to_have_text("y" * 30_000)
    await expect(less).to_be_focused()
    await _call(server, "PATCH", "/2", {"data": ["z" * 10]}, room)
    await _call(server, "DELETE", "/1", None, room)
    await alice.sees(["deleted", f'["{"z" * 10}"]'])
    await expect(alice.log.locator(".more")).to_have_count(0)
    await _call(server, "PATCH", "/2", {"data": {"text": "text again"}}, room)
    await alice.sees(["deleted", "text again"])
    assert (await alice.page.evaluate(STILL))[0]
