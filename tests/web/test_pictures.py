"""What the page looks like in each of its states: a picture of each, and nothing that axe finds.

The pictures are in build/pictures, for people to look at: each state in both schemes, as wide as a
desk's window and as a phone.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, ViewportSize, WebSocketRoute, expect

from chat_server.client import connect
from tests.rig.server import ROOT, ServerProcess, mint
from tests.web.conftest import running
from tests.web.test_accessibility import OF_COLOURS, assert_clean
from tests.web.test_history import HIDE
from tests.web.test_people import SOCIAL
from tests.web.test_unsent import FULL
from tests.web.visitor import Visitor

TRY = """() => document.dispatchEvent(new Event("resume"))"""
"""Do what "Try now" does: by now the page may be trying."""
PICTURES = ROOT / "build/pictures"
DESK, PHONE = ViewportSize(width=1200, height=800), ViewportSize(width=390, height=780)
SIZES = {"desk": DESK, "phone": PHONE}
PLAN = """The **plan** for today:

1. look at `orders.py`
2. answer https://example.org/tickets/17

> who takes the second one?

```python
print("hello")
```"""
RIGHTS: dict[str, Any] = {
    name: ["room:team", "room:**"] for name in ("subscribe", "publish", "history", "presence")
}


class Wire:
    """The WebSocket of a page, which a test can cut and let wait."""

    def __init__(self) -> None:
        self.down = False
        self.deaf = False
        self.routes: list[WebSocketRoute] = []

    async def carry(self, route: WebSocketRoute) -> None:
        """Carry messages between the page and the server."""
        if self.down:
            await route.close(code=3000, reason="down")
            return
        self.routes.append(route)
        server = route.connect_to_server()
        route.on_message(lambda message: None if self.deaf else server.send(message))

    async def cut(self) -> None:
        """End what is connected, and let nothing connect."""
        self.down = True
        for route in self.routes:
            await route.close(code=3000, reason="cut")
        self.routes.clear()


class Camera:
    """Takes the pictures of one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        PICTURES.mkdir(parents=True, exist_ok=True)

    async def take(self, page: Page, state: str, sizes: Iterable[str] = tuple(SIZES)) -> None:
        """Take the pictures of a state, in which axe must find nothing."""
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            for name in sizes:
                await page.set_viewport_size(SIZES[name])
                await page.evaluate("() => new Promise(requestAnimationFrame)")
                file = PICTURES / f"{state}-{name}-{scheme}-{self.language}.png"
                await page.screenshot(path=file)
            await assert_clean(page, OF_COLOURS if scheme == "dark" else ())
        await page.set_viewport_size(DESK)


@asynccontextmanager
async def arrived(browser: Browser, server: ServerProcess, language: str) -> AsyncIterator[Visitor]:
    async with Visitor.arrive(browser, server.url, locale=language, viewport=DESK) as visitor:
        yield visitor


async def offer_everything(route: Route) -> None:
    """Let the page offer all ways to sign in."""
    answer = await route.fetch()
    body = await answer.text()
    body = body.replace('data-accounts=""', 'data-accounts="open"')
    await route.fulfill(response=answer, body=body.replace('data-guests=""', 'data-guests="on"'))


# Two hundred pictures, and half as many runs of axe.
@pytest.mark.timeout(600)
@pytest.mark.extra
@pytest.mark.parametrize("language", ["en", "de"])
async def test_each_state_is_accessible(browser: Browser, tmp_path: Path, language: str) -> None:
    camera = Camera(language)
    environ = {
        **SOCIAL,
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_DATABASE__MIGRATE": "true",
        "CHAT_NAMESPACES__ROOM__ARCHIVE": "true",
    }
    async with running(environ=environ) as server:
        async with arrived(browser, server, language) as guest:
            await sign_in(guest, camera)
        async with arrived(browser, server, language) as anna:
            await conversation(anna, server, camera)
        async with arrived(browser, server, language) as eve:
            await limits(eve, camera)


async def go(page: Page, room: str) -> None:
    """Go to a room, in whichever language the page is."""
    await page.locator("#room").fill(room)
    await page.locator("#room").press("Enter")


async def say(page: Page, text: str) -> None:
    """Write a message, in whichever language the page is."""
    await page.locator("#text").fill(text)
    await page.locator("#text").press("Enter")


async def sign_in(guest: Visitor, camera: Camera) -> None:
    page = guest.page
    await page.goto(guest.url)
    await expect(page.locator("#token")).to_be_visible()
    await camera.take(page, "sign-in")
    guest.refusals = (401, 404)
    await page.route(f"{guest.url}/", offer_everything)
    await page.goto(f"{guest.url}/?all")
    await page.route(f"{guest.url}/?all", offer_everything)
    await page.reload()
    await expect(page.locator("#account-form")).to_be_visible()
    await page.locator("#guest summary").click()
    await page.locator("#sign-up").click()
    await camera.take(page, "sign-up")


async def conversation(anna: Visitor, server: ServerProcess, camera: Camera) -> None:
    page, wire = anna.page, Wire()
    await page.route_web_socket("**/ws", wire.carry)
    wire.down = True
    await anna.follow(mint("anna", name="Anna", **RIGHTS), "empty")
    await expect(page.locator("#trouble")).to_be_visible()
    await camera.take(page, "cannot-connect")
    wire.down = False
    await page.evaluate(TRY)
    await expect(page.locator("#empty")).not_to_be_empty()
    await expect(page.locator("#history")).to_have_attribute("aria-busy", "false")
    await camera.take(page, "empty")
    bot = mint("helper", name="Helper", info={"bot": True}, **RIGHTS)
    async with (
        connect(server.url, token=mint("ben", name="Ben Okafor", **RIGHTS)) as ben,
        connect(server.url, token=mint("dana", name="דנה", **RIGHTS)) as dana,
        connect(server.url, token=bot) as helper,
        ben.subscribe("room:team"),
        dana.subscribe("room:team"),
        helper.subscribe("room:team"),
    ):
        await ben.publish("room:random", {"text": "lunch at noon?"})
        await ben.publish("room:team", {"text": "Good morning, Anna!"})
        first = await ben.publish("room:team", {"text": PLAN})
        await dana.publish("room:team", {"text": "שלום, I take the second one"})
        for client in (dana, helper):
            await client.react("room:team", first.seq, "👍")
        await dana.react("room:team", first.seq, "🎉")
        await ben.publish(
            "room:team", {"order": 17, "state": "paid", "lines": [{"sku": "A-1", "count": 2}]}
        )
        await go(page, "random")
        await go(page, "team")
        await expect(anna.log).to_have_count(4)
        for text in (
            "I look at the orders. **Thank you**, Ben!",
            "And I ask @helper about the numbers.",
        ):
            await say(page, text)
        await expect(anna.outbox).to_have_count(0)
        await ben.publish("room:random", {"text": "I am at the door, @anna"})
        long = "\n".join(f"{n}. a line of a long list" for n in range(1, 40))
        async with helper.stream("room:team", {"text": ""}) as answer:
            await answer.write(
                "Of the **17 orders** of today, two are not paid yet:\n\n- `A-1`\n- `B-"
            )
            await expect(page.locator(".message[aria-busy] .text")).to_contain_text("not paid")
            async with dana.typing("room:team"):
                await expect(page.locator("#typing")).to_be_visible()
                await camera.take(page, "chat")
                await page.locator("#people-button").click()
                await camera.take(page, "people")
                await page.keyboard.press("Escape")
                await anna.log.nth(1).hover()
                await anna.log.nth(1).locator(".act").click()
                # It opens where it has space, and stays there: on a phone that is elsewhere.
                await camera.take(page, "menu", sizes=("desk",))
                await page.keyboard.press("Escape")
        field = page.locator("#text")
        await field.press_sequentially("look :ta")
        await camera.take(page, "completion")
        await field.fill("")
        await field.press("ArrowUp")
        await camera.take(page, "editing")
        await field.press("Escape")
        await page.locator("#scroller").focus()
        await page.keyboard.press("?")
        await camera.take(page, "keys")
        await page.keyboard.press("Escape")
        await page.locator("#search-button").click()
        await page.locator("#search-words").fill("orders")
        await expect(page.locator("#search-note")).to_be_visible()
        await camera.take(page, "search")
        await page.locator("#search-close").click()
        await ben.publish("room:team", {"text": long})
        await expect(anna.log.last).to_contain_text("a line of")
        await camera.take(page, "long")
        await page.evaluate(HIDE, True)
        await ben.publish("room:team", {"text": "@anna, are you there?"})
        await expect(page.locator("#log > .mark")).to_be_visible()
        await camera.take(page, "notify")
        await page.evaluate(HIDE, False)
        await page.set_viewport_size(PHONE)
        await page.locator("#rooms-button").click()
        await expect(page.locator("#room-list")).to_be_visible()
        await page.screenshot(path=PICTURES / f"drawer-phone-{camera.language}.png")
        await page.keyboard.press("Escape")
        await page.set_viewport_size(DESK)
        await wire.cut()
        await say(page, "while the server is away")
        await expect(page.locator("#retry")).to_be_visible()
        await go(page, "random")
        await camera.take(page, "reconnecting")
        wire.down = False
        await page.evaluate(TRY)
        await expect(page.locator("#state")).to_have_attribute("data-state", "online")
        await page.route(
            "**/health/ready",
            lambda route: route.fulfill(status=503, json={"status": "unavailable"}),
        )
        anna.refusals = (503,)
        wire.deaf = True
        await go(page, "elsewhere")
        await expect(page.locator("#empty")).not_to_be_empty()
        await camera.take(page, "no-store")
        wire.deaf = False


async def limits(eve: Visitor, camera: Camera) -> None:
    page = eve.page
    rights = {**RIGHTS, "publish": []}
    await eve.follow(mint("eve", name="Eve", ttl_seconds=100, **rights), "team")
    await expect(page.locator("#ending")).to_be_visible()
    await say(page, "may I?")
    await expect(eve.outbox.locator("button")).to_have_count(2)
    await page.evaluate(FULL)
    await page.locator("#text").fill("a text that finds no space")
    await camera.take(page, "read-only")
    await page.locator("#text").fill("")
    await go(page, "no/room")
    await camera.take(page, "wrong-name")
    await page.keyboard.press("Escape")
    await page.evaluate("hash => { location.hash = hash; }", f"#token={mint('bob', name='Bob')}")
    await expect(page.locator("#ask")).to_be_visible()
    await camera.take(page, "question")
