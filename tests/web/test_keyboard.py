"""Everything by keyboard, and in windows of every kind."""

import re

import pytest
from playwright.async_api import expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.test_accessibility import assert_clean
from tests.web.test_history import fill


async def test_arrows_move_through_messages(visit: Visit, server: ServerProcess) -> None:
    await fill(server, "arrows", 60)
    alice = await visit("alice", "arrows")
    await expect(alice.log).to_have_count(50)
    await alice.page.locator("#scroller").focus()
    keys = alice.page.keyboard
    await keys.press("ArrowUp")
    await expect(alice.log.last).to_be_focused()
    for _ in range(3):
        await keys.press("ArrowUp")
    await keys.press("ArrowDown")
    await expect(alice.log.nth(-3)).to_be_focused()
    await assert_clean(alice.page)
    # The focus leads to messages that were not loaded.
    while not await alice.log.get_by_text("m1.", exact=True).count():
        await keys.press("ArrowUp")
    await keys.press("Escape")
    await expect(alice.field).to_be_focused()


async def test_the_time_of_a_continued_message_is_shown_where_one_looks(
    visit: Visit, server: ServerProcess
) -> None:
    await fill(server, "times", 3)
    alice = await visit("alice", "times")
    for text in ("one", "two"):
        await alice.say(text)
    await expect(alice.log).to_have_count(5)
    heights = "rows => rows.map((row) => row.getBoundingClientRect().top)"
    for index in (1, 4):
        message = alice.log.nth(index)
        await expect(message).to_have_class(re.compile("continued"))
        hidden, shown = message.locator(".head"), ("opacity", "1")
        await expect(hidden).to_have_css("opacity", "0")
        # Screen readers are told it, and who goes on is not said again.
        said = await message.aria_snapshot()
        assert re.match(r'- listitem:\n +- paragraph:\n +- link "\d+:\d\d', said), said
        before = await alice.log.evaluate_all(heights)
        await message.hover()
        await expect(hidden).to_have_css(*shown)
        assert await alice.log.evaluate_all(heights) == before
        await alice.field.hover()
        await expect(hidden).to_have_css("opacity", "0")
        await message.evaluate("row => { row.tabIndex = -1; row.focus(); }")
        await expect(hidden).to_have_css(*shown)
        assert await alice.log.evaluate_all(heights) == before
        await assert_clean(alice.page)
        await alice.field.focus()


async def test_a_question_mark_lists_the_keys(visit: Visit) -> None:
    alice = await visit("alice", "keys-listed")
    await alice.field.press("?")
    await expect(alice.field).to_have_value("?")
    await alice.page.locator("#scroller").press("?")
    keys = alice.page.get_by_role("dialog", name="Keys")
    await expect(keys).to_be_visible()
    await assert_clean(alice.page)
    await alice.page.keyboard.press("Escape")
    await expect(keys).to_be_hidden()


async def test_very_large_letters_leave_the_field_and_messages_in_sight(visit: Visit) -> None:
    """A window of 1,280 by 1,024 at 400 %."""
    alice = await visit(
        "alice", "large", viewport={"width": 320, "height": 256}, forced_colors="active"
    )
    await alice.say("hello")
    await alice.sees(["hello"])
    await expect(alice.log.last).to_be_in_viewport()
    await expect(alice.field).to_be_in_viewport()
    assert await alice.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
async def test_half_of_a_low_window_shows_messages(
    visit: Visit, server: ServerProcess, locale: str
) -> None:
    """A window of 1,280 by 800 at 400 %."""
    room = f"low-{locale}"
    await fill(server, room, 8)
    alice = await visit(locale=locale, viewport={"width": 320, "height": 200})
    await alice.sign_in("alice", room)
    await expect(alice.log.last).to_be_in_viewport(ratio=1)
    field, height = alice.page.locator("#text"), "s => s.clientHeight"
    scroller = alice.page.locator("#scroller")
    await field.fill("one\ntwo\nthree\nfour\nfive\nsix")
    await expect(field).to_be_in_viewport(ratio=1)
    assert await scroller.evaluate(height) >= 60
    # What is said of a room's name is seen, as long as one writes that.
    room_field = alice.page.locator("#room")
    await room_field.fill("wrong/name")
    await expect(alice.page.locator("#room-hint")).to_be_in_viewport()
    await room_field.press("Enter")
    await expect(alice.page.locator("#room-error")).to_be_in_viewport()
    await scroller.focus()
    await expect(alice.page.locator("#room-error")).to_be_hidden()
    # Neither a draft nor what the header has to say takes more, once one does not write.
    await alice.page.context.set_offline(True)
    await expect(alice.page.locator("#state")).to_have_attribute("data-state", "waiting")
    assert await scroller.evaluate(height) >= 100
    await alice.page.context.set_offline(False)
    await expect(alice.page.locator("#state")).to_have_attribute("data-state", "online")
    async with connect(server.url, token=mint("bob")) as bob:
        await bob.signal(f"room:{room}", {"typing": True})
        await expect(alice.page.locator("#typing")).to_be_visible()
        assert await scroller.evaluate(height) >= 100
        await assert_clean(alice.page)
    # Everything is within reach.
    await alice.log.last.click()
    for name in ("#rooms-button", "#sign-out", "#send"):
        await alice.page.locator(name).focus()
        await expect(alice.page.locator(name)).to_be_in_viewport(ratio=1)
    await scroller.focus()
    await alice.page.keyboard.press("ArrowUp")
    await alice.page.keyboard.press("Enter")
    for button in await alice.page.locator("#actions button:visible").all():
        await button.focus()
        await expect(button).to_be_in_viewport(ratio=1)
    await assert_clean(alice.page)
    assert await alice.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
