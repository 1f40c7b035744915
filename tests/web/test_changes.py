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


async def _call(server: ServerProcess, method: str, path: str, body: Any = None) -> Any:
    """Call the HTTP surface for bob, in a room of his own."""
    request = urllib.request.Request(
        f"{server.url}/api/topics/room:changes/messages{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {mint('bob')}"},
        method=method,
    )

    def send() -> Any:
        with urllib.request.urlopen(request, timeout=20) as response:
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
