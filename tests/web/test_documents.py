"""What is written for browsers works in one: the snippets, and the page /docs."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, Page

from ..docs.markdown import ROOT, blocks
from ..docs.walk import DOCUMENTED_ADDRESS, SECONDS, matches
from ..rig.server import ServerProcess, mint


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    faults: list[str] = []
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    await context.close()
    assert faults == []


async def test_a_first_conversation(server: ServerProcess, page: Page) -> None:
    document = blocks((ROOT / "docs/protocol.md").read_text("utf-8"))
    script = next(block for block in document if block.kind == "js")
    documented = document[document.index(script) + 1].text
    await asyncio.to_thread(_publish, server, "hello")
    await asyncio.to_thread(_publish, server, "hi", name="Alice")
    snippet = script.text.replace(DOCUMENTED_ADDRESS, f"127.0.0.1:{server.port}")
    await page.goto(f"{server.url}/docs")
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    async with page.expect_console_message(
        lambda message: '"hello from a browser"' in message.text
    ):
        await page.evaluate(f"() => {{ {snippet.replace('…', mint('alice'))} }}")
    assert matches(documented, "\n".join(printed)), printed


async def test_snippet_of_the_client(server: ServerProcess, page: Page) -> None:
    script = _snippet("docs/browser.md", server)
    statement = 'import { ChatClient } from "/static/client.js"'
    assert statement in script
    script = script.replace(statement, 'const { ChatClient } = await import("/static/client.js")')
    await page.goto(f"{server.url}/docs")
    async with page.expect_console_message(lambda message: message.text == "hello"):
        await page.evaluate(f"async () => {{ {script} }}")


async def test_three_lines_of_the_readme(server: ServerProcess, page: Page) -> None:
    script = _snippet("README.md", server)
    assert len(script.splitlines()) == 3
    await page.goto(f"{server.url}/docs")
    await asyncio.to_thread(_publish, server, "three lines")
    async with page.expect_console_message(lambda message: message.text == "three lines"):
        await page.evaluate(f"async () => {{ {script} }}")


def _snippet(document: str, server: ServerProcess) -> str:
    """Return the first script of a document, for this server and with a token."""
    found = blocks((ROOT / document).read_text("utf-8"))
    script = next(block.text for block in found if block.kind == "js")
    script = script.replace(DOCUMENTED_ADDRESS, f"127.0.0.1:{server.port}")
    return script.replace("…", mint("alice"))


async def test_docs_show_every_call(server: ServerProcess, page: Page) -> None:
    api = await asyncio.to_thread(_api, server)
    await page.goto(f"{server.url}/docs")
    await page.wait_for_selector("article")
    for path, operations in api["paths"].items():
        for operation in operations.values():
            article = page.locator(f"#{operation['operationId']}")
            assert operation["summary"] in await article.inner_text()
            assert path.partition("{")[0] in await article.locator("pre").inner_text()
    answer = page.locator("#get_history details").first
    await answer.locator("summary").click()
    assert "messages[].from.user" in await answer.inner_text()
    assert await page.get_by_role("alert").count() == 0


async def test_docs_copy_a_command_that_works(server: ServerProcess, page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(f"{server.url}/docs")
    await page.locator("#post_publish button").click()
    await page.get_by_text("Copied").wait_for()
    copied = await page.evaluate("() => navigator.clipboard.readText()")
    assert copied.splitlines() == [
        f"curl {server.url}/api/topics/room:lobby/messages \\",
        '  -H "Authorization: Bearer $TOKEN" \\',
        """  -d '{"data":{"text":"hello"}}'""",
    ]


async def test_docs_say_that_they_cannot_be_shown(server: ServerProcess, page: Page) -> None:
    await page.route("**/openapi.json", lambda route: route.fulfill(status=503))
    await page.goto(f"{server.url}/docs")
    await page.get_by_role("alert").wait_for()
    assert "503" in await page.get_by_role("alert").inner_text()


async def test_docs_treat_what_is_described_as_text(server: ServerProcess, page: Page) -> None:
    api = await asyncio.to_thread(_api, server)
    evil = "<img src=x onerror=alert(1)>"
    api["paths"]["/health"]["get"]["summary"] = evil
    api["info"]["title"] = evil
    await page.route("**/openapi.json", lambda route: route.fulfill(json=api))
    await page.goto(f"{server.url}/docs")
    await page.wait_for_selector("article")
    assert evil in await page.locator("#get_health").inner_text()
    assert await page.locator("img").count() == 0


async def test_docs_fit_narrow_and_dark_windows(server: ServerProcess, page: Page) -> None:
    await page.goto(f"{server.url}/docs")
    await page.wait_for_selector("article")
    for width in (360, 1200):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(background) != light


def _api(server: ServerProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=SECONDS) as response:
        api: dict[str, Any] = json.load(response)
        return api


def _publish(server: ServerProcess, text: str, name: str | None = None) -> None:
    request = urllib.request.Request(
        f"{server.url}/api/topics/room:lobby/messages",
        json.dumps({"data": {"text": text}}, separators=(",", ":")).encode(),
        {"Authorization": f"Bearer {mint('alice', name=name)}"},
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        assert response.status == 201
