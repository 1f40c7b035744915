"""The browser client where the browser is what matters: in a worker, and without a network.

The visitors' browsers bypass the page's policy, which forbids the scripts of these tests.
"""

from typing import Any

from playwright.async_api import Page

from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit

SECONDS = 20
"""Less than the silence after which a client asks for a sign of life by itself: 25 s."""

WORKER = """
onmessage = async ({ data: { client, url, token } }) => {
  const { ChatClient } = await import(client);
  const chat = new ChatClient({ url, token, onState: (state) => postMessage(state) });
  const onEvent = async ({ data }) => postMessage(data);
  chat.subscribe("room:worker", { last: 10, onEvent });
  chat.publish("room:worker", "half of " + "😀".slice(0, 1)).then(({ seq }) => postMessage(seq));
};
"""
START_WORKER = """({ script, ...options }) => {
  window.told = [];
  const blob = new Blob([script], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(blob), { type: "module" });
  worker.onmessage = ({ data }) => window.told.push(data);
  worker.onerror = ({ message }) => window.told.push(message ?? "the worker failed");
  worker.postMessage(options);
}"""
CONNECT = """async ({ url, token }) => {
  const { ChatClient } = await import("/static/client.js");
  window.states = [];
  const onState = (state) => window.states.push(state);
  window.client = new ChatClient({ url, token, onState });
}"""

PUBLISH = """() => {
  window.client.publish("room:offline", "while offline").then(({ seq }) => (window.seq = seq));
}"""


def _address(server: ServerProcess, user: str) -> dict[str, str]:
    return {"url": f"ws://127.0.0.1:{server.port}/ws", "token": mint(user)}


async def _state(page: Page, state: str) -> None:
    await page.wait_for_function(
        "(state) => window.states.at(-1) === state", arg=state, timeout=SECONDS * 1000
    )


async def test_it_works_in_a_web_worker(visit: Visit, server: ServerProcess) -> None:
    page = (await visit(bypass_csp=True)).page
    options = {"script": WORKER, "client": f"{server.url}/static/client.js"}
    await page.evaluate(START_WORKER, {**options, **_address(server, "worker")})
    await page.wait_for_function("window.told.length === 4", timeout=SECONDS * 1000)
    told: list[Any] = await page.evaluate("window.told")
    assert told[:2] == ["connecting", "online"]
    assert {1, "half of \ufffd"} == set(told[2:])


async def test_it_does_not_stay_online_without_a_network(
    visit: Visit, server: ServerProcess
) -> None:
    page = (await visit(bypass_csp=True)).page
    await page.evaluate(CONNECT, _address(server, "mobile"))
    await _state(page, "online")
    await page.context.set_offline(True)
    await page.evaluate(PUBLISH)
    await page.wait_for_function("window.states.includes('reconnecting')", timeout=SECONDS * 1000)
    await page.context.set_offline(False)
    await _state(page, "online")
    await page.wait_for_function("window.seq !== undefined", timeout=SECONDS * 1000)
    stored = await page.evaluate("window.client.history('room:offline')")
    assert [message["data"] for message in stored["messages"]] == ["while offline"]
    assert await page.evaluate("window.seq") == 1
    await page.evaluate("window.client.close()")
