"""The list of rooms: what is in it, what it tells, and how it fits a phone."""

from itertools import pairwise

from playwright.async_api import Locator, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until_async
from tests.web.conftest import Visit
from tests.web.test_history import HIDE
from tests.web.visitor import Visitor

EVIL = "<img src=x onerror=alert(1)>"
SHOWN = """() => {
  window.told = [];
  const watch = (node, text) => new MutationObserver(() => text() && window.told.push(text()))
    .observe(node, { childList: true, characterData: true, attributes: true, subtree: true });
  watch(document.querySelector("title"), () => document.title.match(/^\\(\\d+/)?.[0]);
  const badge = document.querySelector("#room-list .badge");
  watch(badge, () => !badge.hidden && badge.textContent);
}"""
"""Note each number of unread messages that the title or the room shows."""
READS = """() => {
  window.reads = [];
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (text) {
    if (text.includes('"type":"read"')) window.reads.push([performance.now(), text]);
    send.call(this, text);
  };
}"""
"""Note when each read mark is sent."""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def links(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("navigation", name="Rooms").locator("a")


async def test_rooms_of_the_token_and_those_that_were_visited(visit: Visit) -> None:
    alice = await visit()
    rights = {"subscribe": ["room:named", "room:10", "room:9", "room:**"], "publish": ["**"]}
    await alice.sign_in("alice", "visited", **rights)
    await expect(links(alice).locator("bdi")).to_have_text(["9", "10", "named", "visited"])
    await alice.page.get_by_role("link", name="named").click()
    await expect(alice.page).to_have_title("#named")
    await expect(links(alice).nth(2)).to_have_attribute("aria-current", "page")
    await alice.page.go_back()
    await expect(alice.page).to_have_title("#visited")
    await expect(links(alice).nth(3)).to_have_attribute("aria-current", "page")
    # Those of the token stay; the one that is open is left for another.
    take_off = alice.page.get_by_role("button", name="Take visited off the list")
    # It hides the time, which it stands over.
    await expect(take_off).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")
    await take_off.click()
    await expect(links(alice).locator("bdi")).to_have_text(["9", "10", "named"])
    await expect(alice.page).to_have_title("#9")
    await expect(alice.page.get_by_role("button", name="off the list")).to_have_count(0)


async def test_the_list_tells_of_other_rooms_live(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "quiet")
    await alice.go("here")
    quiet = alice.page.get_by_role("link", name="quiet")
    await expect(quiet.locator(".badge")).to_be_hidden()
    async with connect(server.url, token=mint("eve", name=f"{EVIL}\u202e")) as eve:
        await eve.publish("room:quiet", {"text": EVIL})
        await expect(quiet.locator(".preview")).to_contain_text(EVIL)
        await expect(quiet.locator(".badge")).to_have_text("1 unread")
        for _ in range(2):
            await eve.publish("room:quiet", {"any": ["data"]})
        await expect(quiet.locator(".badge")).to_have_text("3 unread")
        await expect(quiet.locator(".preview")).to_contain_text('{"any":["data"]}')
    assert await alice.page.locator("img").count() == 0
    # The server remembers what is unread: a page that is loaded anew knows it, too.
    await alice.page.reload()
    await alice.online()
    await expect(quiet.locator(".badge")).to_have_text("3 unread")
    await alice.field.fill("a draft")
    await alice.page.keyboard.press("Control+k")
    await expect(alice.room).to_be_focused()
    await alice.page.keyboard.type("quiet")
    await alice.page.keyboard.press("Enter")
    await expect(alice.log).to_have_count(3)
    await expect(quiet.locator(".badge")).to_be_hidden()
    await expect(alice.page.get_by_role("link", name="here")).to_contain_text("Draft: a draft")


async def test_the_list_has_the_names_of_those_who_are_mentioned(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "names")
    async with connect(server.url, token=mint("u-5", name="Ben")) as ben:
        await ben.publish("room:names", {"text": "I am **Ben**"})
        await ben.publish("room:names", {"text": "or @u-5, not @u-55"})
    preview = alice.page.get_by_role("link", name="names").locator(".preview")
    await expect(preview).to_have_text("\u2068Ben\u2069: \u2068or @Ben, not @u-55\u2069")


async def test_what_comes_while_one_looks_is_never_unread(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "busy")
    await alice.page.evaluate(SHOWN)
    async with connect(server.url, token=mint("bob")) as bob:
        for number in range(5):
            await bob.publish("room:busy", {"text": f"m{number}"})
            await expect(alice.log).to_have_count(number + 1)
            await alice.page.evaluate(DRAWN)
        assert await alice.page.evaluate("window.told") == []
        await expect(alice.page).to_have_title("#busy")
        async with connect(server.url, token=mint("alice")) as other:

            async def is_read() -> bool:
                return (await other.unread("room:busy"))["room:busy"].unread == 0

            await until_async(is_read)
        # What comes when one looks away is unread until one looks again.
        await alice.page.evaluate(HIDE, True)
        await bob.publish("room:busy", {"text": "away"})
        await expect(alice.page).to_have_title("(1) #busy")
        await alice.page.evaluate(HIDE, False)
        await expect(alice.page).to_have_title("#busy")


async def test_what_never_ceases_to_grow_is_read_once_a_second(
    visit: Visit, server: ServerProcess
) -> None:
    topic = "room:endless"
    async with (
        connect(server.url, token=mint("helper")) as bot,
        connect(server.url, token=mint("alice")) as other,
    ):
        await bot.publish(topic, {"text": "first"})
        alice = await visit()
        await alice.page.evaluate(READS)
        await alice.sign_in("alice", "endless")
        async with bot.stream(topic, {"text": ""}) as answer:

            async def is_told_often() -> bool:
                await answer.write("and ")
                await alice.page.evaluate(DRAWN)
                return int(await alice.page.evaluate("window.reads.length")) >= 4

            await until_async(is_told_often)

        async def is_read() -> bool:
            state = (await other.unread(topic))[topic]
            return state.read == state.seq

        await until_async(is_read)
    times = [at for at, _ in await alice.page.evaluate("window.reads")]
    # A timer of a browser may be early by a fraction of a millisecond.
    assert all(later - sooner > 990 for sooner, later in pairwise(times)), times


async def test_two_devices_of_one_user_agree_on_what_is_read(
    visit: Visit, server: ServerProcess
) -> None:
    phone, desk = await visit("carol", "both"), await visit("carol", "both")
    for device in (phone, desk):
        await device.go("aside")
    async with connect(server.url, token=mint("bob")) as bob:
        await bob.publish("room:both", {"text": "hello"})
    badges = [
        device.page.get_by_role("link", name="both").locator(".badge") for device in (phone, desk)
    ]
    for badge in badges:
        await expect(badge).to_have_text("1 unread")
    await phone.go("both")
    for badge in badges:
        await expect(badge).to_be_hidden()


async def test_on_a_phone_the_list_is_a_drawer(visit: Visit) -> None:
    alice = await visit("alice", "drawer", viewport={"width": 360, "height": 640})
    await alice.go("cupboard")
    await expect(links(alice).first).to_be_hidden()
    button = alice.page.get_by_role("button", name="Rooms")
    await button.press("Enter")
    await expect(links(alice)).to_have_count(2)
    await expect(links(alice).first).to_be_visible()
    await alice.page.keyboard.press("Escape")
    await expect(links(alice).first).to_be_hidden()
    await expect(button).to_be_focused()
    await button.click()
    await alice.page.get_by_role("link", name="drawer").click()
    await expect(alice.page).to_have_title("#drawer")
    await expect(links(alice).first).to_be_hidden()
    # A room that is not in the list yet is reached from it, too.
    await button.click()
    await alice.page.get_by_role("button", name="Go to another room").click()
    await expect(links(alice).first).to_be_hidden()
    await expect(alice.room).to_be_focused()
    await alice.page.keyboard.type("cellar")
    await alice.page.keyboard.press("Enter")
    await expect(alice.page).to_have_title("#cellar")


async def test_choosing_a_room_opens_no_keyboard_over_its_messages(visit: Visit) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    alice = await visit("alice", "hall", **phone)
    await expect(alice.field).not_to_be_focused()
    # Who has written the name of a room has a keyboard open already.
    await alice.go("attic")
    await expect(alice.field).to_be_focused()
    await alice.page.get_by_role("button", name="Rooms").tap()
    await alice.page.get_by_role("link", name="hall").tap()
    await expect(alice.page).to_have_title("#hall")
    await expect(alice.field).not_to_be_focused()


async def test_a_draft_stands_below_the_name_of_a_room_without_messages(visit: Visit) -> None:
    alice = await visit("alice", "bare")
    await alice.field.fill("still thinking " * 10)
    await alice.go("other")
    room = alice.page.get_by_role("link", name="bare")
    await expect(room.locator(".preview")).to_contain_text("Draft: still thinking")
    name = await room.locator(".room-name").bounding_box()
    draft = await room.locator(".preview").bounding_box()
    assert name is not None
    assert draft is not None
    assert draft["x"] == name["x"]
    assert draft["y"] >= name["y"] + name["height"]
