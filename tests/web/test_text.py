"""What users wrote stays in its place: its direction, its height, its length."""

import re

import pytest
from playwright.async_api import expect

from chat_server.client import connect
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

OVERRIDE = "\u202e"
ARABIC = "محمد علي"
HEBREW = "שלום, how are you?"
ACCENTS = "Z" + "\u0310\u0336\u0347" * 30
HIGHEST = 800
"""More pixels than 24 lines have, in which a long message is shown."""
DAY_MS = 24 * 60 * 60 * 1000

MANY_LONG = """async () => {
  const { RoomLog } = await import("/static/room-log.js");
  const log = new RoomLog();
  const text = "x".repeat(60_000);
  for (let seq = 1; seq <= 200; seq += 1) log.add({ seq, at: 0, from: null, data: { text } });
  const messages = log.entries.filter(({ kind }) => kind === "message");
  const sizes = messages.map(({ message }) => message.data.text.length);
  return [messages.length, sizes.reduce((sum, size) => sum + size, 0)];
}"""


HAS_EMOJI = """() => new FontFace("one", 'local("Noto Color Emoji")').load()
  .then(() => true, () => false)"""
COLOURS = """async (node) => {
  const { font } = getComputedStyle(node);
  await document.fonts.load(font, "😂");
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.font = font;
  canvas.fillText("😂", 0, 30);
  const { data } = canvas.getImageData(0, 0, 60, 60);
  return data.some((value, index) => index % 4 === 0 && value !== data[index + 2]);
}"""
"""Whether a text, drawn with the font of an element, has other colours than grey."""


async def post(server: ServerProcess, room: str, data: object, user: str, name: str) -> None:
    async with connect(server.url, token=mint(user, name=name)) as chat:
        await chat.publish(f"room:{room}", data)


async def test_a_name_keeps_to_itself(visit: Visit, server: ServerProcess) -> None:
    await post(server, "names", {"text": "one"}, f"u{OVERRIDE}1", f"{OVERRIDE}ecila 12:34")
    await post(server, "names", {"text": "two"}, "u2", ARABIC)
    await post(server, "names", {"text": "three"}, "u3", "\u200b")
    alice = await visit("alice", "names")
    await alice.sees(["one", "two", "three"])
    senders = alice.log.locator("bdi.sender")
    await expect(senders).to_have_text(["\ufffdecila 12:34", ARABIC, "u3"])
    await expect(senders.nth(0)).to_have_attribute("title", "u\ufffd1")
    times = alice.log.locator("time")
    for index in range(3):
        sender, time = (
            await senders.nth(index).bounding_box(),
            await times.nth(index).bounding_box(),
        )
        assert sender
        assert time
        assert sender["x"] + sender["width"] <= time["x"], "the time stands behind the name"


async def test_the_own_name_keeps_to_itself(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "own-name", name=f"{OVERRIDE}ecila")
    await expect(alice.page.locator("bdi#me")).to_have_text("\ufffdecila")
    await expect(alice.field).to_have_attribute(
        "placeholder", "Write a message as \u2068\ufffdecila\u2069"
    )
    await expect(alice.field).to_have_attribute("dir", "auto")


async def test_a_text_has_its_own_direction(visit: Visit, server: ServerProcess) -> None:
    await post(server, "bidi", {"text": HEBREW}, "u1", "Ben")
    await post(server, "bidi", {"text": f"{OVERRIDE}turned"}, "u1", "Ben")
    await post(server, "bidi", {"name": f"{OVERRIDE}turned"}, "u1", "Ben")
    alice = await visit("alice", "bidi")
    await alice.say(HEBREW)
    texts = alice.log.locator(".text")
    await expect(texts).to_have_count(4)
    styles = await texts.evaluate_all(
        "nodes => nodes.map(getComputedStyle).map((s) => [s.direction, s.unicodeBidi])"
    )
    assert styles == [
        ["rtl", "plaintext"],
        ["ltr", "plaintext"],
        ["ltr", "isolate"],
        ["rtl", "plaintext"],
    ]
    await expect(texts.nth(2)).to_have_text('{"name":"\\u202eturned"}')


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\u2028"])
async def test_a_message_of_line_breaks_is_not_as_high(
    visit: Visit, server: ServerProcess, line_end: str
) -> None:
    room = f"lines-{ord(line_end[-1])}-{len(line_end)}"
    await post(server, room, {"text": "top" + line_end * 10_000 + "end"}, "eve", "Eve")
    alice = await visit("alice", room)
    await expect(alice.log).to_have_count(1)
    assert await height(alice.log.first) < HIGHEST
    more = alice.log.get_by_role("button", name=re.compile("Show all [0-9,.]+ characters"))
    await more.focus()
    await more.press("Enter")
    await expect(alice.log.locator(".text")).to_have_text(re.compile("end$"))
    assert await height(alice.log.first) < HIGHEST
    await alice.log.get_by_role("button", name="Show less").click()
    await expect(alice.log.locator(".text")).to_have_text(re.compile("…$"))


async def test_an_unsent_message_is_not_as_high_either(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "unsent-lines", publish=[])
    await alice.say("top" + "\n" * 500 + "end")
    await expect(alice.outbox).to_contain_text("Not sent.")
    assert await height(alice.outbox.first) < HIGHEST


async def height(locator: object) -> float:
    return float(await locator.evaluate("n => n.getBoundingClientRect().height"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["n" * 120, ACCENTS, "W" * 120])
async def test_a_long_or_high_name_has_one_line(
    visit: Visit, server: ServerProcess, name: str
) -> None:
    room = f"long-{len(name)}-{name[0]}"
    await post(server, room, {"text": ACCENTS * 3}, "eve", name)
    alice = await visit("alice", room, viewport={"width": 320, "height": 600})
    await expect(alice.log).to_have_count(1)
    scroller = alice.page.locator("#scroller")
    assert await scroller.evaluate("s => s.scrollWidth <= s.clientWidth")
    assert await height(alice.log.locator(".head")) < 40
    clipped = "nodes => nodes.map((n) => getComputedStyle(n).overflowY)"
    assert await alice.log.locator(".sender, .text").evaluate_all(clipped) == ["clip", "clip"]
    await expect(alice.log.locator("time")).to_be_in_viewport(ratio=1)


async def test_only_what_is_worth_a_press_is_folded(visit: Visit, server: ServerProcess) -> None:
    await post(server, "fold", {"text": "x" * 2_292}, "eve", "Eve")
    await post(server, "fold", {"text": "\n".join("y" * 30)}, "eve", "Eve")
    await post(server, "fold", {"text": "z" * 3_001}, "eve", "Eve")
    alice = await visit("alice", "fold")
    await alice.sees(["x" * 2_292, "\n".join("y" * 30), "z" * 2_000 + "…"])
    topic = "room:fold-growing"
    await alice.go("fold-growing")
    async with connect(server.url, token=mint("helper")) as bot, bot.subscribe(topic):
        async with bot.stream(topic, {"text": ""}) as answer:
            await answer.write("a" * 1_000)
            await alice.sees(["a" * 1_000])
            await answer.write("a" * 4_000)
            await alice.sees(["a" * 5_000])
        await expect(alice.log.first).not_to_have_attribute("aria-busy", "true")
        await alice.sees(["a" * 5_000])
    await alice.page.reload()
    await alice.sees(["a" * 2_000 + "…"])


async def test_half_an_emoji_is_not_what_an_excerpt_ends_with(visit: Visit) -> None:
    alice = await visit("alice", "emoji")
    await alice.say("x" + "😀" * 3000)
    await expect(alice.log).to_have_count(1)
    shown = await alice.log.locator(".text").inner_text()
    assert shown == "x" + "😀" * 999 + "…"


async def test_long_messages_count_for_more(visit: Visit) -> None:
    visitor = await visit()
    shown, characters = await visitor.page.evaluate(MANY_LONG)
    assert 1 < shown < 70
    assert characters <= 4_000_000


async def test_the_day_ends_in_an_open_page(visit: Visit) -> None:
    alice = await visit()
    await alice.page.clock.install()
    await alice.page.reload()
    await alice.sign_in("alice", "midnight")
    await alice.say("before midnight")
    await expect(alice.log.first).to_have_attribute("data-day", "Today")
    await alice.page.clock.fast_forward(DAY_MS)
    await expect(alice.log.first).to_have_attribute("data-day", "Yesterday")
    await alice.page.clock.fast_forward(DAY_MS)
    await expect(alice.log.first).to_have_attribute("data-day", re.compile("day, "))


async def test_emoji_have_colours(visit: Visit) -> None:
    alice = await visit("alice", "colours")
    if not await alice.page.evaluate(HAS_EMOJI):
        pytest.skip("there is no font with emoji in colour")
    await alice.say("😂")
    await alice.sees(["😂"])
    assert await alice.log.locator(".text").evaluate(COLOURS)
