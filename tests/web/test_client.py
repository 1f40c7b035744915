"""The browser client where the browser matters: in a worker, offline, behind another page.

The visitors' browsers bypass the page's policy, which forbids the scripts of these tests.
"""

import asyncio
import json
import urllib.request

import pytest
from playwright.async_api import Browser, Page

from tests.docs.markdown import ROOT, blocks
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

SECONDS = 90
"""Less than the silence after which a client asks for a sign of life by itself: 25 s."""

START_WORKER = """({ script, ...options }) => {
  window.told = [];
  const blob = new Blob([script], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(blob), { type: "module" });
  worker.onmessage = ({ data }) => window.told.push(data);
  worker.onerror = ({ message }) => window.told.push(message ?? "the worker failed");
  worker.postMessage(options);
}"""
SHARED = """
import { ChatClient } from "/static/client.js";

const ports = [];
let chat;
const tell = (what) => ports.forEach((port) => {
  // A page that is kept is given up by what is posted to it.
  if (port.waiting) port.waiting.push(what);
  else port.postMessage(what);
});
const start = (options) => {
  chat = new ChatClient(options);
  const onEvent = ({ data }) => tell(data);
  return new Promise((onReady) => chat.subscribe("room:shared", { onEvent, onReady }));
};
let started;
onconnect = ({ ports: [port] }) => {
  ports.push(port);
  port.onmessage = async ({ data }) => {
    if (data === "away") return (port.waiting = []);
    if (data === "back") {
      port.waiting.forEach((what) => port.postMessage(what));
      return delete port.waiting;
    }
    if (data === "hello") return chat.publish("room:shared", data);
    await (started ??= start(data));
    port.postMessage("online");
  };
};
"""

SHARE = """({ address, ...options }) => {
  window.told = [];
  window.port = new SharedWorker(address, { type: "module" }).port;
  window.port.onmessage = ({ data }) => window.told.push(data);
  window.port.postMessage(options);
  const tell = (what) => ({ persisted }) => persisted && window.port.postMessage(what);
  addEventListener("pagehide", tell("away"));
  addEventListener("pageshow", tell("back"));
}"""
CONNECT = """async ({ url, token }) => {
  const { ChatClient } = await import("/static/client.js");
  window.states = [];
  const onState = (state) => window.states.push(state);
  window.client = new ChatClient({ url, token, onState });
}"""

LISTEN = """() => {
  window.heard = [];
  const onEvent = ({ data }) => window.heard.push(data);
  return new Promise((onReady) => window.client.subscribe("room:back", { onEvent, onReady }));
}"""

SHOWN = """() => {
  window.shows = [];
  addEventListener("pageshow", ({ persisted }) => window.shows.push(persisted));
}"""

PUBLISH = """() => {
  window.client.publish("room:offline", "while offline").then(({ seq }) => (window.seq = seq));
}"""


@pytest.fixture(scope="module")
def browser(whole_browser: Browser) -> Browser:
    """A Chromium whose Back button shows a page that it kept."""
    return whole_browser


def _address(server: ServerProcess, user: str) -> dict[str, str]:
    return {"url": f"ws://127.0.0.1:{server.port}/ws", "token": mint(user)}


async def _state(page: Page, state: str) -> None:
    await page.wait_for_function(
        "(state) => window.states.at(-1) === state", arg=state, timeout=SECONDS * 1000
    )


def _publish(server: ServerProcess, room: str, data: str) -> None:
    body = json.dumps({"data": data}).encode()
    headers = {"Authorization": f"Bearer {mint('other')}", "Content-Type": "application/json"}
    address = f"{server.url}/api/topics/room:{room}/messages"
    urllib.request.urlopen(urllib.request.Request(address, body, headers))


async def _leave_and_come_back(page: Page, server: ServerProcess, room: str) -> None:
    """Miss something behind another page; it is the same page again that is shown then."""
    await page.evaluate(SHOWN)
    await page.goto(f"{server.url}/docs", wait_until="commit")
    await asyncio.to_thread(_publish, server, room, "missed")
    # By the page itself: the browser answers no question of its driver while one page takes the
    # place of another.
    await page.evaluate("() => void setTimeout(() => history.back())")
    await page.wait_for_function("() => window.shows?.length === 1", timeout=SECONDS * 1000)
    assert await page.evaluate("window.shows") == [True]


async def _start_worker(page: Page, server: ServerProcess) -> None:
    document = blocks((ROOT / "docs/browser.md").read_text("utf-8"))
    [script] = [block.text for block in document if block.heading == "In a worker"]
    # The worker is made of a text here, which has no address that others are relative to.
    script = script.replace('"/static/', f'"{server.url}/static/')
    await page.evaluate(START_WORKER, {"script": script, **_address(server, "worker")})
    await page.wait_for_function("() => window.told.length === 3", timeout=SECONDS * 1000)
    told = await page.evaluate("window.told")
    assert told == ["connecting", "online", "hello from a worker"]


async def test_it_works_in_a_web_worker_and_behind_another_page(
    visit: Visit, server: ServerProcess
) -> None:
    page = (await visit(bypass_csp=True)).page
    await _start_worker(page, server)
    await _leave_and_come_back(page, server, "worker")
    await page.wait_for_function("() => window.told.includes('missed')", timeout=SECONDS * 1000)


async def test_pages_share_it_in_a_shared_worker(visit: Visit, server: ServerProcess) -> None:
    first = (await visit(bypass_csp=True)).page
    second = await first.context.new_page()
    await second.goto(server.url)
    script = SHARED.replace("/static/", f"{server.url}/static/")
    # Both name it by the same address.
    address = await first.evaluate(
        "(script) => URL.createObjectURL(new Blob([script], { type: 'text/javascript' }))", script
    )
    for page in (first, second):
        await page.evaluate(SHARE, {"address": address, **_address(server, "shared")})
        await page.wait_for_function("() => window.told.includes('online')", timeout=SECONDS * 1000)
    await second.evaluate("window.port.postMessage('hello')")
    for page in (first, second):
        await page.wait_for_function("() => window.told.includes('hello')", timeout=SECONDS * 1000)
    assert await second.evaluate("window.told") == ["online", "hello"]
    await _leave_and_come_back(second, server, "shared")
    for page in (first, second):
        await page.wait_for_function("() => window.told.includes('missed')", timeout=SECONDS * 1000)
    assert await second.evaluate("window.told") == ["online", "hello", "missed"]
    await second.close()


async def test_it_does_not_stay_online_without_a_network(
    visit: Visit, server: ServerProcess
) -> None:
    page = (await visit(bypass_csp=True)).page
    await page.evaluate(CONNECT, _address(server, "mobile"))
    await _state(page, "online")
    await page.context.set_offline(True)
    await page.evaluate(PUBLISH)
    await page.wait_for_function(
        "() => window.states.includes('reconnecting')", timeout=SECONDS * 1000
    )
    await page.context.set_offline(False)
    await _state(page, "online")
    await page.wait_for_function("() => window.seq !== undefined", timeout=SECONDS * 1000)
    stored = await page.evaluate("window.client.history('room:offline')")
    assert [message["data"] for message in stored["messages"]] == ["while offline"]
    assert await page.evaluate("window.seq") == 1
    await page.evaluate("window.client.close()")


async def test_the_back_button_shows_the_page_as_it_was_and_what_it_missed(
    visit: Visit, server: ServerProcess
) -> None:
    page = (await visit(bypass_csp=True)).page
    await page.evaluate(CONNECT, _address(server, "returning"))
    await page.evaluate(LISTEN)
    await _state(page, "online")
    await _leave_and_come_back(page, server, "back")
    await page.wait_for_function("() => window.heard?.includes('missed')", timeout=SECONDS * 1000)
    states = await page.evaluate("window.states")
    assert states == ["connecting", "online", "reconnecting", "reconnecting", "online"]
    await page.evaluate("window.client.close()")
