"""The picture of the README: `python -m tests.web.readme_picture` takes it anew in Chromium.

It needs a font with emoji in colour (Debian, Ubuntu: apt install fonts-noto-color-emoji).
"""

import asyncio
from typing import Any

from playwright.async_api import ViewportSize, expect

from chat_server.client import Client, connect
from tests.rig.chromium import chromium
from tests.rig.server import ROOT, ServerProcess, mint
from tests.web.conftest import running
from tests.web.test_people import SOCIAL
from tests.web.visitor import Visitor

FILE = ROOT / "docs/images/chat.png"
SIZE = ViewportSize(width=1000, height=832)
TOPIC = "room:lobby"
RELEASE = "Morning! Shall we move the release to **Thursday**? See https://example.org/notes"
LEFT = "Yes. Two things are left:\n- the chart\n- `make check` on 3.13"
TAKEN = "> Two things are left\nI take the chart 🙌"
ASKED = "@helper what changed since the last one?"
ANSWER = (
    "Since the last release:\n\n1. messages have **reactions**\n2. answers grow while they are wri"
)


def client(server: ServerProcess, user: str, name: str, **claims: Any) -> Client:
    """Return a client for somebody whose page is not in the picture."""
    return connect(server.url, token=mint(user, name=name, **claims))


async def talk(ann: Client, ben: Client, helper: Client) -> None:
    """Say what is in the picture, but for the answer that grows."""
    for room, text in (("design", "The chart is blue now."), ("releases", "Thursday it is.")):
        await ben.publish(f"room:{room}", {"text": text})
    first = await ann.publish(TOPIC, {"text": RELEASE})
    await ben.react(TOPIC, first.seq, "👍")
    await helper.react(TOPIC, first.seq, "👍")
    await ben.react(TOPIC, first.seq, "🎉")
    left = await ben.publish(TOPIC, {"text": LEFT})
    await ann.react(TOPIC, left.seq, "✅")
    taken = await ann.publish(TOPIC, {"text": TAKEN})
    await ben.react(TOPIC, taken.seq, "❤️")
    await ben.react(TOPIC, taken.seq, "😂")
    await helper.react(TOPIC, taken.seq, "❤️")
    await ben.publish(TOPIC, {"text": ASKED})


async def take() -> None:
    """Let three talk, and take the picture of what one of them sees."""
    async with (
        running(environ=SOCIAL) as server,
        chromium() as browser,
        Visitor.arrive(browser, server.url, viewport=SIZE, reduced_motion="reduce") as visitor,
        client(server, "ann", "Ann") as ann,
        client(server, "ben", "Ben", info={"hue": 150}) as ben,
        client(server, "helper", "Helper", info={"bot": True, "hue": 30}) as helper,
        ben.subscribe(TOPIC),
        helper.subscribe(TOPIC),
    ):
        rooms = [f"room:{name}" for name in ("lobby", "design", "releases")]
        await talk(ann, ben, helper)
        await visitor.sign_in("ann", name="Ann", subscribe=rooms)
        unread = visitor.page.locator(".badge:visible")
        # What is seen is read a moment later.
        await expect(unread).to_have_count(2)
        await visitor.go("design")
        await expect(unread).to_have_count(1)
        await visitor.go("lobby")
        async with helper.stream(TOPIC, {"text": ""}) as answer:
            await answer.write(ANSWER)
            await expect(visitor.log.last).to_contain_text("while they are wri")
            async with ben.typing(TOPIC):
                await expect(visitor.page.locator("#typing")).to_be_visible()
                await expect(unread).to_have_count(1)
                await visitor.page.screenshot(path=FILE)


if __name__ == "__main__":
    asyncio.run(take())
