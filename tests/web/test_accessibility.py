"""What axe finds on the pages: nothing."""

import json
from collections.abc import Sequence

import pytest
from axe_playwright_python.async_playwright import Axe
from axe_playwright_python.base import AxeResults
from playwright.async_api import Browser, Page, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.visitor import Visitor

TABLE = "| what | how many |\n|---|--:|\n| tea | 3 |"
LONG = "\n".join(f"line {number}" for number in range(60))
OF_COLOURS = ("color-contrast", "link-in-text-block")
"""The rules that judge colours, which are all that the two schemes differ in."""
DISTINCT = """() => {
  const seen = new Set();
  const kindOf = (node) =>
    node ? `${kindOf(node.parentElement)} ${node.localName}.${node.className}` : "";
  for (const article of document.querySelectorAll("article")) {
    const kinds = [...article.querySelectorAll("*")].map(kindOf);
    if (kinds.every((kind) => seen.has(kind))) article.remove();
    kinds.forEach((kind) => seen.add(kind));
  }
}"""
"""Remove each article whose elements all have the place and the class of elements in others."""


async def assert_clean(
    page: Page, rules: Sequence[str] = (), *, without: Sequence[str] = ()
) -> None:
    """Fail if axe finds anything, by all of its rules, by some, or by all without some."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(Axe().axe_script)
    options: dict[str, object] = {"rules": {rule: {"enabled": False} for rule in without}}
    if rules:
        options["runOnly"] = rules
    found = await page.evaluate(
        f"axe.run({json.dumps(options)}).then(({{ violations }}) => ({{ violations }}))"
    )
    results = AxeResults(found)
    assert results.violations_count == 0, results.generate_report()


async def assert_clean_in_both_schemes(page: Page) -> None:
    """Fail if axe finds anything in one of the two schemes."""
    await assert_clean(page)
    await page.emulate_media(color_scheme="dark")
    await assert_clean(page, OF_COLOURS)
    await page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("width", [1200, 340])
async def test_the_chat_is_accessible(visit: Visit, server: ServerProcess, width: int) -> None:
    room = f"axe-{width}"
    async with connect(server.url, token=mint("bob")) as bob:
        for data in ({"text": TABLE}, {"text": LONG}, {"any": "data"}):
            await bob.publish(f"room:{room}", data)
    alice = await visit(color_scheme="light", viewport={"width": width, "height": 700})
    await assert_clean_in_both_schemes(alice.page)
    await alice.sign_in("alice", room, subscribe=["room:**"], history=["room:**"], publish=[])
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text("Not sent.")
    await alice.log.get_by_role("button", name="Show all").click()
    await expect(alice.page.get_by_role("heading", level=1)).to_have_text(f"#{room}")
    await expect(alice.page.get_by_role("log").get_by_role("listitem")).to_have_count(3)
    await assert_clean_in_both_schemes(alice.page)
    await alice.go("wrong/name")
    await assert_clean_in_both_schemes(alice.page)
    await alice.page.evaluate("hash => { location.hash = hash; }", f"#token={mint('eve')}")
    await expect(alice.page.get_by_role("dialog")).to_be_visible()
    await assert_clean_in_both_schemes(alice.page)


async def test_the_docs_are_accessible(browser: Browser, server: ServerProcess) -> None:
    async with Visitor.arrive(browser, server.url, color_scheme="light") as visitor:
        page = visitor.page
        await page.goto(f"{server.url}/docs")
        await page.wait_for_selector("article")
        await page.locator("details").evaluate_all(
            "all => all.forEach((one) => { one.open = true; })"
        )
        await assert_clean(page, without=OF_COLOURS)
        # Colours take axe most of its time, and depend on nothing but the kinds of elements.
        await page.evaluate(DISTINCT)
        assert 1 < await page.locator("article").count() < 15
        await assert_clean(page, OF_COLOURS)
        await page.emulate_media(color_scheme="dark")
        await assert_clean(page, OF_COLOURS)
