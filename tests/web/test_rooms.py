"""Going from room to room, and back."""

from playwright.async_api import expect

from tests.web.conftest import Visit


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
