"""Older messages, the place where one was, and what is new since."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from chat_server.client import connect, publish_all
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.visitor import SECONDS, Visitor

MANY = 900
MAX_ROWS = 320
TOP = "s => new Promise((done) => { s.scrollTop = 0; requestAnimationFrame(done); })"
"""Scroll up as far as the page goes, and let it draw."""
PLACE = """([s, text]) => {
  const row = [...s.querySelectorAll('.message .text')].find((row) => row.textContent === text);
  return row.getBoundingClientRect().top - s.getBoundingClientRect().top;
}"""
GROW = """() => {
  const scroller = document.querySelector("#scroller");
  const outbox = document.querySelector("#outbox");
  outbox.style.minHeight = `${outbox.offsetHeight + 300}px`;
  scroller.dispatchEvent(new Event("scroll"));
}"""
"""Let something grow, and the page hear of its own scrolling only then."""
AT_END = """() => {
  const scroller = document.querySelector("#scroller");
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 2;
}"""
MOST = """() => {
  window.most = 0;
  const log = document.querySelector('#log');
  new MutationObserver(() => { window.most = Math.max(window.most, log.children.length); })
    .observe(log, { childList: true });
}"""
SEQS = "rows => rows.map((row) => Number(new URLSearchParams(row.hash.slice(1)).get('seq')))"
UNTIL_READ = """async (topic) => {
  const { ChatClient } = await import("/static/client.js");
  const url = location.origin.replace("http", "ws") + "/ws";
  const token = sessionStorage.getItem("chat.token");
  await new Promise((done) => {
    const chat = new ChatClient({ url, token, onState: async (state) => {
      if (state !== "online") return;
      while ((await chat.unread(topic))[topic].unread > 0) {
        await new Promise((next) => setTimeout(next, 50));
      }
      chat.close();
      done();
    } });
  });
}"""
"""Wait until the server knows that all is read."""
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def fill(server: ServerProcess, room: str, count: int, user: str = "bob") -> None:
    async def items() -> AsyncIterator[object]:
        for number in range(1, count + 1):
            yield {"text": f"m{number}."}

    async with connect(server.url, token=mint(user)) as chat:
        async for _ in publish_all(chat, f"room:{room}", items()):
            pass


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(server: ServerProcess) -> str:
    """A room with very many messages."""
    await fill(server, "many", MANY)
    return "many"


def scroller(page: Page) -> Locator:
    return page.locator("#scroller")


async def scroll_to_the_beginning(visitor: Visitor) -> None:
    first = visitor.log.get_by_text("m1.", exact=True)
    async with asyncio.timeout(SECONDS):
        while not await first.count():
            await scroller(visitor.page).evaluate(TOP)


async def test_older_messages_come_on_scrolling_up_and_the_document_stays_small(
    visit: Visit, many: str
) -> None:
    alice = await visit("alice", many)
    await expect(alice.log).to_have_count(50)
    await alice.page.evaluate(MOST)
    await scroll_to_the_beginning(alice)
    seqs = await alice.page.locator("#log .place").evaluate_all(SEQS)
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) <= MAX_ROWS
    assert await alice.page.evaluate("window.most") <= MAX_ROWS + 1
    await alice.page.get_by_role("button", name="Newest messages").click()
    await expect(alice.log.last).to_contain_text(f"m{MANY}.")
    # All of them are loaded: the way back up needs no server.
    await alice.page.context.set_offline(True)
    await scroll_to_the_beginning(alice)


async def test_what_is_loaded_above_does_not_move_what_is_read(visit: Visit, many: str) -> None:
    alice = await visit("alice", many)
    await expect(alice.log).to_have_count(50)
    page = scroller(alice.page)
    await page.evaluate("s => { s.scrollTop = 400; }")
    seen = f"m{MANY - 40}."
    scroll = await page.element_handle()
    before = await alice.page.evaluate(PLACE, [scroll, seen])
    await expect(alice.log).to_have_count(150)
    after = await alice.page.evaluate(PLACE, [scroll, seen])
    assert abs(after - before) < 2


async def test_what_grows_before_the_page_has_scrolled_is_followed(visit: Visit, many: str) -> None:
    alice = await visit("alice", many)
    await expect(alice.log).to_have_count(50)
    await alice.page.evaluate(GROW)
    await alice.page.wait_for_function(AT_END)
    await scroller(alice.page).hover()
    await alice.page.mouse.wheel(0, -300)
    await alice.page.wait_for_function(f"() => !({AT_END})()")
    top = await scroller(alice.page).evaluate("s => s.scrollTop")
    await alice.page.evaluate(GROW)
    await alice.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert await scroller(alice.page).evaluate("s => s.scrollTop") == top


async def test_a_permalink_leads_to_its_message(visit: Visit, server: ServerProcess) -> None:
    await fill(server, "linked", 400)
    alice = await visit("alice", "linked")
    await expect(alice.log).to_have_count(50)
    await alice.page.evaluate("location.hash = '#room=linked&seq=100'")
    target = alice.log.get_by_text("m100.", exact=True)
    await expect(target).to_be_in_viewport()
    assert alice.page.url.endswith("#room=linked&seq=100")
    # What is between is loaded when one comes near.
    await scroll_to_the_beginning(alice)
    await alice.page.evaluate("location.hash = '#room=linked'")
    await alice.page.go_back()
    await expect(target).to_be_in_viewport()
    await alice.page.reload()
    await expect(target).to_be_in_viewport()
    await alice.page.evaluate("location.hash = '#room=linked&seq=4000'")
    await expect(alice.page.get_by_role("alert")).to_contain_text("cannot be shown")


@pytest.mark.parametrize("count", [3, 80])
async def test_a_page_opens_where_its_user_left(
    visit: Visit, server: ServerProcess, count: int
) -> None:
    room = f"left-{count}"
    await fill(server, room, 60)
    alice = await visit("alice", room)
    await expect(alice.log.last).to_contain_text("m60.")
    await alice.page.evaluate(UNTIL_READ, f"room:{room}")
    line = alice.page.locator("#log > .mark")
    await expect(line).to_have_count(0)
    await alice.page.goto("about:blank")
    await fill(server, room, count)
    await alice.page.goto(f"{alice.url}/#room={room}")
    await expect(line).to_be_in_viewport()
    await expect(line.locator("+ .message")).to_contain_text("m1.")
    badge = alice.page.locator("#room-list .badge")
    if count == 80:
        await expect(badge).to_have_text("80 unread")
        await alice.page.get_by_role("button", name="Newest messages").click()
    # What is seen to its end is read.
    await expect(alice.log.last).to_be_in_viewport()
    await alice.page.evaluate(UNTIL_READ, f"room:{room}")
    await expect(badge).to_be_hidden()


async def test_a_line_says_what_is_new(visit: Visit, server: ServerProcess) -> None:
    await fill(server, "news", 60)
    alice = await visit("alice", "news")
    await expect(alice.log.last).to_contain_text("m60.")
    line = alice.page.locator("#log > .mark")
    await expect(line).to_have_count(0)
    await alice.page.evaluate(UNTIL_READ, "room:news")
    await alice.page.evaluate(HIDE, True)
    async with connect(server.url, token=mint("bob")) as bob:
        await bob.publish("room:news", {"text": "while away"})
        await expect(line).to_have_text("New since you were here")
        await expect(line.locator("+ .message")).to_contain_text("while away")
        await alice.go("elsewhere")
        link = alice.page.get_by_role("navigation", name="Rooms").get_by_role("link", name="news")
        await expect(link).to_contain_text("1 unread")
        await bob.publish("room:news", {"text": "and more"})
        await expect(link).to_contain_text("2 unread")
    await alice.page.evaluate(HIDE, False)
    await link.click()
    await expect(line.locator("+ .message")).to_contain_text("while away")
    await expect(link.locator(".badge")).to_be_hidden()
    await alice.say("an answer")
    await expect(line).to_have_count(0)
