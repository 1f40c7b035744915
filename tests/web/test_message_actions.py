"""What can be done with a message: react, reply, edit, delete, stop."""

import re

from playwright.async_api import Locator, expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until
from tests.web.conftest import Visit
from tests.web.test_accessibility import assert_clean, assert_clean_in_both_schemes
from tests.web.test_text import post
from tests.web.visitor import Visitor

GONE = "The message that you were editing is not there any more. What you wrote is a draft now."
MODERATOR = {name: ["room:**"] for name in ("subscribe", "publish", "history", "moderate")}

ANOTHER_ORDER = """async () => {
  const { Room } = await import("/static/room.js");
  const asked = [];
  const react = async (topic, seq, emoji, { epoch, remove }) => {
    asked.push([topic, seq, emoji, { epoch, remove }]);
    return { duplicate: false, seq: 9 };
  };
  const client = { react };
  const room = new Room("lobby", { client, user: "alice", onEvent: () => {}, onChange: () => {} });
  Object.defineProperty(room, "position", { value: { epoch: "E", seq: 9 } });
  const before = { seq: 1, at: 1, from: null, data: { text: "before" } };
  room.log.add(before);
  await room.react(before, "👍");
  room.log.addGap({ after: 0, before: 1 });
  room.log.add({ seq: 1, at: 2, from: null, data: { text: "another" } });
  const error = await room.react(before, "👍").catch(({ code }) => code);
  return [asked, error];
}"""


async def act(visitor: Visitor, message: Locator, name: str) -> None:
    """Open the menu of a message, and choose something."""
    await message.hover()
    await message.get_by_role("button", name="Actions").click()
    await menu(visitor).get_by_role("button", name=name, exact=True).click()
    await expect(menu(visitor)).to_be_hidden()


def menu(visitor: Visitor) -> Locator:
    return visitor.page.locator("#actions")


async def test_reactions_are_given_and_taken_back(visit: Visit, server: ServerProcess) -> None:
    await post(server, "react", {"text": "shall we?"}, "eve", "Eve")
    alice, bob = await visit("alice", "react"), await visit("bob", "react")
    await act(alice, alice.log.first, "👍")
    chip = alice.log.get_by_role("button", name="👍")
    await expect(chip).to_have_text("\u2068👍\u2069 1")
    await expect(chip).to_have_attribute("aria-pressed", "true")
    others = bob.log.get_by_role("button", name="👍")
    await expect(others).to_have_attribute("aria-pressed", "false")
    await expect(others).to_have_attribute("title", "\u2068alice\u2069")
    await others.click()
    await expect(chip).to_have_text("\u2068👍\u2069 2")
    # Where nothing hovers, the menu tells who it was, with their names.
    async with connect(server.url, token=mint("eve", name="Eve")) as eve:
        await eve.react("room:react", 1, "👀")
    await alice.log.first.get_by_role("button", name="Actions").click()
    reacted = menu(alice).get_by_role("list", name="Reactions").get_by_role("listitem")
    named = ["\u2068👍\u2069 \u2068You\u2069, \u2068bob\u2069", "\u2068👀\u2069 \u2068Eve\u2069"]
    await expect(reacted).to_have_text(named)
    await alice.page.keyboard.press("Escape")
    async with connect(server.url, token=mint("eve")) as eve:
        await eve.react("room:react", 1, "👀", remove=True)
    await chip.click()
    await expect(others).to_have_text("\u2068👍\u2069 1")
    await others.click()
    await expect(bob.log.locator(".chip")).to_have_count(0)
    await expect(alice.log.locator(".reactions")).to_have_count(0)


async def test_who_is_not_named_takes_a_reaction_back(visit: Visit, server: ServerProcess) -> None:
    """A message names the first ten users of a reaction."""
    await post(server, "eleven", {"text": "shall we?"}, "eve", "Eve")
    for number in range(10):
        async with connect(server.url, token=mint(f"user-{number}")) as other:
            await other.react("room:eleven", 1, "👍")
    alice = await visit("alice", "eleven")
    chip = alice.log.get_by_role("button", name="👍")
    await expect(chip).to_have_text("\u2068👍\u2069 10")
    for _ in range(2):
        await chip.click()
        await expect(chip).to_have_text("\u2068👍\u2069 11")
        await expect(chip).to_have_attribute("aria-pressed", "true")
        await chip.click()
        await expect(chip).to_have_text("\u2068👍\u2069 10")
        await expect(chip).to_have_attribute("aria-pressed", "false")
    await chip.click()
    await expect(chip).to_have_text("\u2068👍\u2069 11")
    await alice.page.reload()
    await alice.online()
    await expect(chip).to_have_text("\u2068👍\u2069 11")
    await expect(chip).to_have_attribute("title", re.compile(", \u2068user-9\u2069 and 1 more$"))
    await chip.click()
    await expect(chip).to_have_text("\u2068👍\u2069 10")


async def test_what_its_writer_has_left_is_not_waited_for(
    visit: Visit, server: ServerProcess
) -> None:
    topic = "room:left-alone"
    async with (
        connect(server.url, token=mint("helper")) as bot,
        bot.subscribe(topic),
        bot.stream(topic, {"text": ""}) as answer,
    ):
        await answer.write("So ")
        alice = await visit()
        await alice.page.clock.install()
        await alice.page.reload()
        await alice.sign_in("alice", "left-alone")
        stop = alice.log.get_by_role("button", name="Stop")
        unfinished = alice.log.get_by_text("unfinished", exact=True)
        await expect(stop).to_be_visible()
        await alice.page.clock.fast_forward(61_000)
        await expect(unfinished).to_be_visible()
        await expect(stop).to_have_count(0)
        await answer.write("it ")
        await expect(unfinished).to_have_count(0)
        await stop.click()
        await expect(stop).to_have_text("Stopping…")
        # The bot knows, and does nothing.
        await until(lambda: answer.cancelled)
        await alice.page.clock.fast_forward(11_000)
        await expect(unfinished).to_be_visible()
        await answer.write("goes.")
        await expect(unfinished).to_have_count(0)
    await alice.sees(["So it goes."])
    await expect(stop).to_have_count(0)
    await expect(unfinished).to_have_count(0)


async def test_the_menu_is_reached_by_keyboard(visit: Visit, server: ServerProcess) -> None:
    await post(server, "keys", {"text": "hello"}, "eve", "Eve")
    alice = await visit("alice", "keys")
    await alice.sees(["hello"])
    await alice.page.locator("#scroller").focus()
    await alice.page.keyboard.press("ArrowUp")
    await expect(alice.log.first).to_be_focused()
    await alice.page.keyboard.press("Enter")
    await expect(menu(alice).get_by_role("button", name="👍")).to_be_focused()
    await expect(menu(alice).get_by_role("button", name="Edit")).to_be_hidden()
    await expect(menu(alice).get_by_role("button", name="Delete")).to_be_hidden()
    await alice.page.keyboard.press("Escape")
    await expect(menu(alice)).to_be_hidden()
    await expect(alice.log.first).to_be_focused()


async def test_arrow_up_edits_the_last_message_of_one_s_own(
    visit: Visit, server: ServerProcess
) -> None:
    alice, bob = await visit("alice", "edit"), await visit("bob", "edit")
    await alice.say("helo")
    await alice.sees(["helo"])
    await bob.say("hi")
    await alice.sees(["helo", "hi"])
    editing = alice.page.locator("#editing")
    await alice.field.fill("begun")
    await alice.field.press("ArrowUp")
    await expect(alice.field).to_have_value("begun")
    await alice.field.fill("")
    await alice.field.press("ArrowUp")
    await expect(alice.field).to_have_value("helo")
    await expect(editing).to_be_visible()
    await assert_clean(alice.page)
    await alice.field.fill("hello")
    await alice.field.press("Enter")
    await bob.sees(["hello", "hi"])
    await expect(editing).to_be_hidden()
    await expect(alice.field).to_have_value("")
    await expect(bob.log.first.get_by_text("edited", exact=True)).to_be_visible()


async def test_a_message_that_is_written_anew_is_never_lost(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "kept")
    await alice.say("first")
    await alice.sees(["first"])
    await alice.field.fill("a draft")
    await act(alice, alice.log.first, "Edit")
    await expect(alice.field).to_have_value("first")
    await alice.field.fill("first, but better")
    # Neither another room nor a reload takes it away, nor the draft.
    await alice.go("kept-other")
    await expect(alice.field).to_have_value("")
    await alice.go("kept")
    await expect(alice.field).to_have_value("first, but better")
    await alice.page.reload()
    await alice.online()
    await expect(alice.field).to_have_value("first, but better")
    await act(alice, alice.log.first, "Reply")
    error = alice.page.locator("#composer-error")
    await expect(error).to_have_text("Save or cancel first what you are editing.")
    await expect(alice.field).to_have_value("first, but better")
    async with connect(server.url, token=mint("alice")) as other:
        seq = (await other.history("room:kept")).messages[0].seq
        await other.delete("room:kept", seq)
    # It is told at once, not at Enter, and what is written is a draft that goes on.
    await alice.sees(["deleted"])
    await expect(error).to_have_text(GONE)
    await expect(alice.page.locator("#editing")).to_be_hidden()
    await expect(alice.field).to_have_value("a draft\n\nfirst, but better")
    await alice.page.reload()
    await alice.online()
    await expect(alice.field).to_have_value("a draft\n\nfirst, but better")


async def test_what_is_deleted_while_one_is_elsewhere_is_told_at_enter(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit("alice", "gone")
    await alice.say("first")
    await alice.sees(["first"])
    await act(alice, alice.log.first, "Edit")
    await alice.field.fill("better")
    await alice.go("gone-other")
    async with connect(server.url, token=mint("alice")) as other:
        await other.delete("room:gone", 1)
    # Whoever is back before the news is told at once.
    await expect(alice.page.get_by_role("link", name=re.compile("#gone .*deleted"))).to_be_visible()
    await alice.go("gone")
    await alice.sees(["deleted"])
    await expect(alice.field).to_have_value("better")
    await alice.field.press("Enter")
    await expect(alice.page.locator("#composer-error")).to_have_text(GONE)
    await expect(alice.page.locator("#editing")).to_be_hidden()
    await expect(alice.field).to_have_value("better")


async def test_text_and_link_of_each_message_are_copied(
    visit: Visit, server: ServerProcess
) -> None:
    await post(server, "copied", {"text": "one"}, "eve", "Eve")
    await post(server, "copied", {"text": "**two**"}, "eve", "Eve")
    alice = await visit(permissions=["clipboard-read", "clipboard-write"])
    await alice.sign_in("alice", "copied")
    told, shown = alice.page.locator("#announcer"), alice.page.locator("#told")
    await act(alice, alice.log.nth(1), "Copy text")
    await expect(told).to_have_text("The text is copied.")
    await expect(shown).to_have_text("The text is copied.")
    await assert_clean(alice.page)
    read = "() => navigator.clipboard.readText()"
    assert await alice.page.evaluate(read) == "**two**"
    await alice.log.nth(1).focus()
    await alice.page.keyboard.press("Enter")
    await menu(alice).get_by_role("button", name="Copy link").press("Enter")
    await expect(menu(alice)).to_be_hidden()
    await expect(told).to_have_text("The link is copied.")
    assert await alice.page.evaluate(read) == f"{server.url}/#room=copied&seq=2"
    await expect(shown).to_be_hidden()


async def test_a_message_is_deleted_once_that_is_confirmed(
    visit: Visit, server: ServerProcess
) -> None:
    await post(server, "delete", {"text": "rude"}, "eve", "Eve")
    moderator = await visit()
    await moderator.sign_in("mona", "delete", **MODERATOR)
    await moderator.sees(["rude"])
    await act(moderator, moderator.log.first, "Delete")
    await moderator.page.get_by_role("button", name="Keep it").click()
    await moderator.sees(["rude"])
    await act(moderator, moderator.log.first, "Delete")
    await moderator.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await moderator.sees(["deleted"])
    await expect(moderator.log.get_by_role("button")).to_have_count(0)


async def test_a_reply_begins_with_a_quote(visit: Visit, server: ServerProcess) -> None:
    text = "> older\none\n\ntwo **bold**\nthree\nfour\nfive"
    await post(server, "reply", {"text": text}, "eve", "Eve")
    alice = await visit("alice", "reply")
    await alice.field.fill("my draft")
    await act(alice, alice.log.first, "Reply")
    quote = "> one\n> two **bold**\n> three\n> four\n@eve "
    await expect(alice.field).to_have_value(f"{quote}my draft")
    await expect(alice.field).to_be_focused()
    await alice.field.press("ControlOrMeta+End")
    await alice.field.press_sequentially(" **of** mine")
    await alice.field.press("Enter")
    answer = alice.log.nth(1)
    await expect(answer.locator("blockquote strong")).to_have_text("bold")
    await expect(answer.locator(".text")).to_contain_text("@Eve my draft")
    # What the list of rooms shows of it is the answer, as it reads.
    await expect(alice.page.locator(".preview")).to_have_text(
        "\u2068You\u2069: \u2068@Eve my draft of mine\u2069"
    )


async def test_emoji_are_completed(visit: Visit) -> None:
    alice = await visit("alice", "emoji-names")
    await alice.field.press_sequentially("see 10:30 :tad")
    await expect(alice.page.get_by_role("option")).to_have_text("🎉 :tada:")
    await alice.field.press("Enter")
    await expect(alice.field).to_have_value("see 10:30 🎉 ")
    await alice.field.press_sequentially("or :tada: and :nothing: and 1:cat:")
    await expect(alice.field).to_have_value("see 10:30 🎉 or 🎉 and :nothing: and 1:cat:")
    await alice.field.fill("")
    await alice.field.press_sequentially("yes :+1: no :-1: :-)")
    await expect(alice.field).to_have_value("yes 👍 no 👎 :-)")


async def test_a_growing_answer_is_stopped(visit: Visit, server: ServerProcess) -> None:
    topic = "room:grow"
    token = mint("helper", name="Helper", info={"bot": True})
    async with connect(server.url, token=token) as bot, bot.subscribe(topic):
        alice = await visit("alice", "grow", color_scheme="light")
        await alice.say("> a\n\n- `code` and https://example.com\n\n```\nblock\n```")
        await expect(alice.log.locator("pre")).to_have_text("block")
        async with bot.stream(topic, {"text": ""}) as answer:
            await answer.write("It is **")
            message = alice.log.nth(1)
            await expect(message.locator(".text")).to_have_text("It is **")
            await expect(message.locator(".bot")).to_have_text("Bot")
            await answer.write("so**")
            await expect(message.locator(".text strong")).to_have_text("so")
            await answer.write("\n- one")
            # It grows there, not below the list.
            await expect(message.locator(".tail")).to_have_text("one")
            await act(alice, message, "🎉")
            await expect(message.locator(".chip")).to_have_attribute("aria-pressed", "true")
            await message.get_by_role("button", name="Actions").click()
            await assert_clean_in_both_schemes(alice.page)
            await alice.page.keyboard.press("Escape")
            await message.get_by_role("button", name="Stop").click()
            await until(lambda: answer.cancelled)
        await expect(message.get_by_text("stopped", exact=True)).to_be_visible()
        await expect(message.get_by_role("button", name="Stop")).to_have_count(0)
        await expect(message).not_to_have_attribute("aria-busy", "true")


async def test_what_was_seen_before_the_order_was_lost_is_not_changed(visit: Visit) -> None:
    visitor = await visit()
    assert await visitor.page.evaluate(ANOTHER_ORDER) == [
        [["room:lobby", 1, "👍", {"epoch": "E", "remove": False}]],
        "not_found",
    ]
