"""What axe finds on the pages: nothing."""

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

LONG = "\n".join(f"line {number}" for number in range(60))


async def assert_clean(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 340), ("dark", 340)]
)
async def test_the_chat_is_accessible(
    visit: Visit, server: ServerProcess, scheme: str, width: int
) -> None:
    room = f"axe-{scheme}-{width}"
    async with connect(server.url, token=mint("bob")) as bob:
        for data in ({"text": "hello"}, {"text": LONG}, {"any": "data"}):
            await bob.publish(f"room:{room}", data)
    alice = await visit(color_scheme=scheme, viewport={"width": width, "height": 700})
    await assert_clean(alice.page)
    await alice.sign_in("alice", room, subscribe=["room:**"], history=["room:**"], publish=[])
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text("Not sent.")
    await alice.log.get_by_role("button", name="Show all").click()
    await expect(alice.page.get_by_role("heading", level=1)).to_have_text(f"#{room}")
    await expect(alice.page.get_by_role("log").get_by_role("listitem")).to_have_count(3)
    await assert_clean(alice.page)
    await alice.go("wrong/name")
    await assert_clean(alice.page)
    await alice.page.evaluate("hash => { location.hash = hash; }", f"#token={mint('eve')}")
    await expect(alice.page.get_by_role("dialog")).to_be_visible()
    await assert_clean(alice.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_docs_are_accessible(visit: Visit, scheme: str) -> None:
    visitor = await visit(color_scheme=scheme)
    await visitor.page.goto(f"{visitor.url}/docs")
    await visitor.page.wait_for_selector("article")
    for summary in await visitor.page.locator("summary").all():
        await summary.click()
    await assert_clean(visitor.page)
