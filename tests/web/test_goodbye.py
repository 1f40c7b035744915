"""The browser client stays away for as long as a `goodbye` asks."""

from typing import Any

from chat_server.protocol.close_codes import CloseCode
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until as until_soon
from tests.web.conftest import Visit

WAIT_MS = 1_500

CONNECT = """async (url) => {
  const { ChatClient } = await import("/static/client.js");
  window.states = [];
  const onState = (state, { retryInMs }) =>
    window.states.push({ state, retryInMs, at: performance.now() });
  window.client = new ChatClient({ url, token: "t", onState });
}"""


async def test_the_browser_client_comes_back_when_it_was_asked_to(visit: Visit) -> None:
    visitor = await visit()
    async with FakeServer() as server:
        await visitor.page.evaluate(CONNECT, server.url.replace("http:", "ws:"))
        await until_soon(lambda: len(server.connections) == 1, 20)
        await server.close(CloseCode.RESTART, "the server restarts", reconnect_in_ms=WAIT_MS)
        await until_soon(lambda: not server.connections, 20)
        await visitor.page.wait_for_function(
            "() => window.states.some(({ state }) => state === 'reconnecting')"
        )
        # A network that comes back is no reason to come earlier.
        await visitor.page.evaluate("window.dispatchEvent(new Event('online'))")
        await until_soon(lambda: len(server.connections) == 1, 20)
        states: list[dict[str, Any]] = await visitor.page.evaluate("window.states")
        await visitor.page.evaluate("window.client.close()")
    left = next(state for state in states if state["state"] == "reconnecting")
    assert WAIT_MS <= left["retryInMs"] <= 1.1 * WAIT_MS
    later = states[states.index(left) + 1]
    assert later["at"] - left["at"] >= 0.95 * WAIT_MS, "came back too early"
