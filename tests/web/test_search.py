"""The search in the page, where the server has an archive."""

import re
from pathlib import Path

from playwright.async_api import Route, expect

from chat_server.client import connect
from tests.rig.server import mint
from tests.web.conftest import GENEROUS, Visit, running
from tests.web.test_accessibility import assert_clean
from tests.web.test_history import fill

EVIL = "<img src=x onerror=alert(1)>"


async def test_search_finds_and_leads_to_the_message(visit: Visit, tmp_path: Path) -> None:
    environ = {
        **GENEROUS,
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_DATABASE__MIGRATE": "true",
        "CHAT_NAMESPACES__ROOM__ARCHIVE": "true",
    }
    async with running(environ=environ) as server:
        async with connect(server.url, token=mint("bob", name=f"{EVIL}\u202e")) as bob:
            await bob.publish("room:far", {"text": f"before **the needle** {EVIL} behind"})
        await fill(server, "far", 300)
        alice = await visit("alice", "near", at=server)
        await alice.page.get_by_role("button", name="Search").click()
        dialog = alice.page.get_by_role("dialog", name="Search")
        field = dialog.get_by_role("searchbox")
        await expect(field).to_be_focused()
        hit = dialog.get_by_role("listitem")
        await field.fill("nothinglikeit")
        await expect(dialog).to_contain_text("Nothing was found.")
        # A message is found once the archive has it.
        while not await hit.count():
            await field.fill("needle")
            async with alice.page.expect_response("**/api/search?*"):
                await field.press("Enter")
            await alice.page.evaluate("() => new Promise(requestAnimationFrame)")
        await expect(hit.locator("mark")).to_have_text("needle")
        await expect(hit).to_contain_text(f"before the needle {EVIL} behind")
        assert await alice.page.locator("img").count() == 0
        await assert_clean(alice.page)
        await hit.get_by_role("link").click()
        await expect(dialog).to_be_hidden()
        # In front of it may stand how much is not read.
        await expect(alice.page).to_have_title(re.compile(r"#far$"))
        await expect(alice.log.get_by_text("before the needle")).to_be_in_viewport()
        assert alice.page.url.endswith("#room=far&seq=1")

        async def fail(route: Route) -> None:
            await route.fulfill(status=503, json={"code": "unavailable", "detail": "away"})

        alice.refusals = (503,)
        await alice.page.route("**/api/search?*", fail)
        await alice.page.get_by_role("button", name="Search").click()
        await field.fill("needles")
        await expect(dialog).to_contain_text(
            "The search failed. The server cannot search at the moment."
        )
        await field.press("Escape")
        await expect(dialog).to_be_hidden()


async def test_without_an_archive_there_is_no_search(visit: Visit) -> None:
    alice = await visit("alice", "none")
    await expect(alice.page.get_by_role("button", name="Search")).to_have_count(0)
