"""The page says how the connection is, what to look at, and says it once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, expect

from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit, running

LISTEN = """() => {
  window.announced = [];
  window.states = [];
  for (const node of document.querySelectorAll("[role=status], [role=alert]")) {
    new MutationObserver(() => {
      if (node.textContent) window.announced.push(node.textContent);
    }).observe(node, { childList: true, characterData: true, subtree: true });
  }
  const state = document.querySelector("#state");
  new MutationObserver(() => window.states.push(state.textContent))
    .observe(state, { childList: true, characterData: true, subtree: true });
}"""


@asynccontextmanager
async def renaming_proxy(server: ServerProcess) -> AsyncIterator[str]:
    """A proxy that forgets the Host header, and so gives the server a name of its own."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data.replace(b"Host: 127.0.0.1", b"Host: backend"))
        finally:
            writer.close()

    async def carry(near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        far, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        for task in (copy(near, far_writer), copy(far, near_writer)):
            tasks.add(asyncio.create_task(task))

    proxy = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def announced(page: Page) -> list[str]:
    texts: list[str] = await page.evaluate("window.announced")
    return texts


async def test_a_connection_that_never_came_about_is_no_lost_one(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit()
    async with renaming_proxy(server) as url:
        alice.url = url
        await alice.follow(mint("alice"), "proxied")
        trouble = alice.page.locator("#trouble")
        await expect(trouble).to_contain_text(f"no WebSocket to {url.replace('http', 'ws')}/ws")
        await expect(trouble).to_contain_text("Upgrade, Connection and Host")
        await expect(trouble).to_contain_text("http.allowed_origins")
        await expect(alice.state).to_contain_text("Cannot connect")
        await alice.page.goto("about:blank")


async def test_a_server_that_is_away_is_told_from_a_proxy_that_is_wrong(visit: Visit) -> None:
    async with running() as server:
        alice = await visit(at=server)
        await asyncio.to_thread(server.stop)
        await alice.enter(mint("alice"))
        trouble = alice.page.locator("#trouble")
        await expect(trouble).to_contain_text(f"{server.url} does not answer")
        await asyncio.to_thread(server.start)
        await alice.online()
        await expect(trouble).to_be_hidden()


async def test_a_lost_connection_is_announced_once(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "announce", at=server)
        await alice.page.evaluate(LISTEN)
        await asyncio.to_thread(server.stop)
        # The state is shown anew with each attempt, and each second of waiting.
        await alice.page.wait_for_function("() => window.states.length >= 8")
        assert await announced(alice.page) == ["Connection lost. Reconnecting."]
        await expect(alice.page.locator("#trouble")).to_be_hidden()
        await asyncio.to_thread(server.start)
        await alice.online()
        await alice.page.wait_for_function("() => window.announced.length >= 2")
        assert await announced(alice.page) == ["Connection lost. Reconnecting.", "Online."]


async def test_a_room_that_is_not_open_yet_says_so(visit: Visit, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    await asyncio.to_thread(redis.start)
    try:
        async with running("--redis-url", redis.url) as server:
            alice = await visit("alice", "before", at=server)
            await asyncio.to_thread(redis.stop)
            alice.refusals = (503,)
            await alice.go("during")
            empty = alice.page.locator("#empty")
            await expect(empty).to_contain_text("The server cannot reach its store")
            await expect(alice.state).to_have_text("The server has no store")
            await asyncio.to_thread(redis.start)
            await alice.online()
            await expect(empty).to_have_text("Nobody has written here yet. Be the first.")
            await alice.say("at last")
            await alice.sees(["at last"])
    finally:
        await asyncio.to_thread(redis.stop)


async def test_a_network_that_is_away_is_told(visit: Visit) -> None:
    alice = await visit("alice", "offline")
    await alice.page.context.set_offline(True)
    await expect(alice.state).to_have_text("No network")
    await alice.say("later")
    await alice.page.context.set_offline(False)
    await alice.online()
    await alice.sees(["later"])


async def test_one_may_try_to_connect_at_once(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "again", at=server)
        await alice.page.context.set_offline(True)
        retry = alice.page.get_by_role("button", name="Try now")
        await alice.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
        await expect(retry).to_be_visible()
        await alice.page.context.set_offline(False)
        await alice.online()
        await expect(retry).to_be_hidden()
