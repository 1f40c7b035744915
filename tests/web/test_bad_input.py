"""What nobody should send: hostile data, huge words, and a server that answers wrongly."""

import json

import pytest
from playwright.async_api import WebSocketRoute, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.test_text import ACCENTS, HIGHEST, height
from tests.web.visitor import Visitor

EVIL = "<img src=x onerror=harmed=1>"
INFO = {"bot": EVIL, "hue": "1;background:url(//evil.example)", "avatar": EVIL}
SHAPES = [
    None,
    5,
    True,
    [EVIL],
    {"text": 5},
    {"text": {"text": EVIL}},
    {"text": None, "html": EVIL},
]
WORD = "x" * 65_000


async def test_data_of_any_shape_is_shown_as_code(visit: Visit, server: ServerProcess) -> None:
    async with connect(server.url, token=mint("eve", name=EVIL, info=INFO)) as eve:
        for data in SHAPES:
            await eve.publish("room:shapes", data)
        alice = await visit("alice", "shapes")
        codes = alice.log.locator("code.data")
        shown = [json.dumps(data, separators=(",", ":")) for data in SHAPES]
        await expect(codes).to_have_text(shown)
        await expect(alice.log.locator(".bot")).to_have_count(0)
        await expect(alice.log.locator(".sender").first).to_have_text(EVIL)
    await alice.page.evaluate("location.hash = `#room=${encodeURIComponent('<img src=x>')}`")
    await expect(alice.page).to_have_title("#shapes")
    assert await alice.page.locator("img").count() == 0
    assert await alice.page.evaluate("window.harmed") is None


async def test_huge_words_stay_in_their_place(visit: Visit, server: ServerProcess) -> None:
    async with connect(server.url, token=mint("eve", name=ACCENTS)) as eve:
        for text in (WORD, "a" + "\u0310" * 10_000, f"https://example.org/{WORD[:60_000]}"):
            await eve.publish("room:huge", {"text": text})
    alice = await visit("alice", "huge", viewport={"width": 320, "height": 600})
    await expect(alice.log).to_have_count(3)
    for message in await alice.log.all():
        # Of a long word 2,000 characters are shown: in a window as narrow some ninety lines.
        assert await height(message) < 4 * HIGHEST
    await alice.log.first.get_by_role("button", name="Show all").click()
    await expect(alice.log.first.locator(".text")).to_have_text(WORD)
    assert await height(alice.log.first) < HIGHEST
    for part in ("#scroller", "html"):
        fits = "node => node.scrollWidth <= node.clientWidth"
        assert await alice.page.locator(part).evaluate(fits), part


@pytest.mark.parametrize("fault", ["twice", "swapped", "late"])
async def test_a_server_that_answers_wrongly_loses_nothing(
    visit: Visit, server: ServerProcess, fault: str
) -> None:
    """Each frame comes twice, or behind the next one, or not before the connection is a new one."""
    connections = 0

    async def carry(route: WebSocketRoute) -> None:
        nonlocal connections
        connections += 1
        is_wrong = connections == 1
        beyond = route.connect_to_server()
        held: list[str | bytes] = []

        async def on_answer(message: str | bytes) -> None:
            kind = json.loads(message)["type"]
            if not is_wrong or kind not in ("ok", "message"):
                route.send(message)
            elif fault == "twice":
                route.send(message)
                route.send(message)
            elif fault == "swapped":
                held.append(message)
                if len(held) == 2:
                    route.send(held.pop())
                    route.send(held.pop())
            elif kind == "message":
                await route.close(code=3000, reason="late")

        beyond.on_message(on_answer)

    alice = await visit()
    await alice.page.route_web_socket("**/ws", carry)
    await alice.follow(mint("alice"), f"wrong-{fault}")
    texts = ["one", "two", "three"]
    for text in texts:
        await alice.say(text)
    await alice.sees(texts)
    if fault != "twice":
        return
    await alice.go("elsewhere")
    async with connect(server.url, token=mint("bob")) as bob:
        await bob.publish("room:wrong-twice", {"text": "counted once"})
    await expect(alice.page.locator(".badge:visible")).to_have_text("1 unread")


async def test_two_tabs_of_one_user_disturb_each_other_in_nothing(visit: Visit) -> None:
    first = await visit("alice", "tabs")
    second = Visitor(await first.page.context.new_page(), first.url)
    await second.sign_in("alice", "tabs")
    await first.field.fill("a draft")
    await second.say("from the second")
    await second.go("others")
    for visitor in (first, second):
        await visitor.go("tabs")
        await visitor.sees(["from the second"])
    # What one writes stays in its tab; the rooms are those of the user.
    await expect(first.field).to_have_value("a draft")
    await expect(second.field).to_have_value("")
    await first.page.reload()
    await expect(first.page.locator("#room-list a")).to_have_count(2)
    await expect(first.field).to_have_value("a draft")
    await first.say("a draft, sent")
    await second.sees(["from the second", "a draft, sent"])
    # Who signs out here goes on there.
    await second.page.get_by_role("button", name="Sign out").click()
    await expect(second.page.locator("#sign-in")).to_be_visible()
    await first.say("still here")
    await first.sees(["from the second", "a draft, sent", "still here"])
    assert second.faults == []
