"""Going from room to room, and back."""

from playwright.async_api import expect

from tests.web.conftest import Visit
from tests.web.test_accessibility import assert_clean


async def test_escape_leaves_a_wrong_name(visit: Visit) -> None:
    alice = await visit("alice", "here")
    await alice.go("not/a room!")
    error = alice.page.get_by_role("alert")
    await expect(error).to_contain_text("A room's name has only a to z")
    # A message that comes meanwhile draws the room anew.
    bob = await visit("bob", "here")
    await bob.say("hello")
    await alice.sees(["hello"])
    await expect(error).to_contain_text("A room's name has only a to z")
    await alice.room.press("Escape")
    await expect(alice.room).to_have_value("here")
    await expect(error).to_have_count(0)
    await expect(alice.field).to_be_focused()
    await alice.go("wrong/again")
    await expect(error).to_have_count(1)
    await alice.field.focus()
    await expect(alice.room).to_have_value("here")
    await expect(error).to_have_count(0)


async def test_back_leads_to_the_room_before(visit: Visit) -> None:
    alice = await visit("alice", "first")
    await alice.say("in the first")
    await alice.go("second")
    await alice.say("in the second")
    await alice.sees(["in the second"])
    await alice.page.go_back()
    await expect(alice.page).to_have_title("#first")
    await alice.sees(["in the first"])
    await expect(alice.room).to_have_value("first")
    await alice.page.go_forward()
    await alice.sees(["in the second"])
    await alice.page.evaluate("location.hash = '#room=third'")
    await expect(alice.page).to_have_title("#third")
    await alice.page.evaluate("location.hash = '#room=no such/room'")
    await expect(alice.page).to_have_title("#third")
    assert alice.page.url.endswith("#room=third")


async def test_a_room_that_only_a_pattern_names_is_offered(visit: Visit) -> None:
    alice = await visit()
    rights = {"subscribe": ["room:hall", "room:team:*", "room:{sub}:**", "user:{sub}"]}
    await alice.sign_in("alice", "hall", **rights)
    hint = alice.page.locator("#room-hint")
    allowed = (
        "Your token allows \u2068#hall\u2069, \u2068#team:*\u2069, \u2068#alice:**\u2069. "
        "* stands for any part of a name between colons, ** for one or more."
    )
    await alice.page.keyboard.press("Control+k")
    await expect(hint).to_be_hidden()
    # As long as something of the list may be meant, that alone is offered.
    await alice.page.keyboard.type("ha")
    await expect(alice.page.locator("#join")).to_be_visible()
    await expect(hint).to_be_hidden()
    await alice.page.keyboard.type("ha")
    await expect(hint).to_have_text(f"Your token does not allow #haha. {allowed}")
    await alice.room.fill("team:red!")
    await expect(hint).to_contain_text("A room's name has only a to z")
    await alice.room.fill("team:red")
    offer = "No room of your list is called that. Enter opens #team:red."
    await expect(hint).to_have_text(f"{offer} {allowed}")
    await expect(alice.page.locator("#announcer")).to_have_text(f"{offer} {allowed}")
    await expect(alice.room).to_have_accessible_description(f"{offer} {allowed}")
    await assert_clean(alice.page)
    await alice.room.press("Escape")
    await expect(hint).to_be_hidden()
    await expect(alice.field).to_be_focused()
    await alice.go("team:red")
    await expect(alice.page).to_have_title("#team:red")
    await expect(hint).to_be_hidden()
    await alice.say("hello")
    await alice.sees(["hello"])
