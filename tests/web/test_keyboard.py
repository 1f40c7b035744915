"""Everything by keyboard, and in windows of every kind."""

import re

from playwright.async_api import expect

from tests.rig.server import ServerProcess
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
