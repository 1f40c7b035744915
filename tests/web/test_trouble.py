"""The chat page when things go wrong: restarts, expired tokens, limits."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from playwright.async_api import expect

from chat_server.client import connect
from chat_server.protocol.close_codes import LONG_BACKOFF, STOP
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until_async
from tests.web.conftest import Visit, running

WEB = Path(__file__).parents[2] / "chat_server/web"


async def test_a_restart_is_survived_without_loss_or_repeat(visit: Visit, tmp_path: Path) -> None:
    """While one server is away, others write through a second one, and Alice writes offline."""
    redis = RedisServer(tmp_path)
    await asyncio.to_thread(redis.start)
    flags = ("--redis-url", redis.url)
    try:
        async with running(*flags) as one, running(*flags) as two:
            alice = await visit("alice", "restart", at=one)
            await alice.say("before")
            await alice.sees(["before"])
            await asyncio.to_thread(one.stop)
            await expect(alice.state).to_contain_text("Reconnecting")
            await alice.say("offline 1")
            await alice.say("offline 2")
            await expect(alice.outbox.locator(".note")).to_have_text(["Sending…", "Sending…"])
            async with connect(two.url, token=mint("bob")) as bob:
                for number in range(5):
                    await bob.publish("room:restart", {"text": f"meanwhile {number}"})
                await asyncio.to_thread(one.start)
                await alice.online()
                missed = [f"meanwhile {number}" for number in range(5)]
                await alice.sees(["before", *missed, "offline 1", "offline 2"])
                await bob.publish("room:restart", {"text": "after"})
                stored = (await bob.history("room:restart")).messages
            await alice.sees(["before", *missed, "offline 1", "offline 2", "after"])
            assert len(stored) == 9
    finally:
        await asyncio.to_thread(redis.stop)


async def test_a_server_that_forgets_is_survived_too(visit: Visit) -> None:
    """The memory broker loses everything at a restart; the page says so and goes on."""
    async with running() as server:
        alice = await visit("alice", "memory", at=server)
        await alice.say("before")
        await alice.sees(["before"])
        await asyncio.to_thread(server.stop)
        await expect(alice.state).to_contain_text("Reconnecting")
        await alice.say("offline")
        await asyncio.to_thread(server.start)
        await alice.online()
        await alice.sees(["before", "offline"])
        await expect(alice.page.locator("#log .notice")).to_contain_text(
            "has lost what was written"
        )
        await alice.say("after")
        await alice.sees(["before", "offline", "after"])


async def test_a_server_that_forgets_what_is_read_is_told_again(
    visit: Visit, tmp_path: Path
) -> None:
    """The archive keeps what is read every few seconds: a killed server loses the rest."""
    database = tmp_path / "chat.db"
    environ = {
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{database}",
        "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
    }
    rooms = ("room:aside", "room:shown")
    async with running(environ=environ) as server:
        async with connect(server.url, token=mint("bob")) as bob:
            for topic in rooms:
                for number in range(3):
                    await bob.publish(topic, {"text": f"m{number}"})
        alice = await visit("alice", "aside", at=server)
        await until_read(server, "room:aside")
        await alice.go("shown")
        await until_read(server, "room:shown")
        await asyncio.to_thread(server.stop)
        with closing(sqlite3.connect(database)) as kept:
            assert kept.execute("delete from chat_archive_cursors").rowcount == 2
            kept.commit()
        await asyncio.to_thread(server.start)
        await alice.online()
        for topic in rooms:
            await until_read(server, topic)
        await expect(alice.page.locator(".badge:visible")).to_have_count(0)
        await expect(alice.page).to_have_title("#shown")


async def until_read(server: ServerProcess, topic: str) -> None:
    """Wait until the server knows that Alice has read all three messages of a topic."""

    async def is_read() -> bool:
        return (await chat.unread(topic))[topic].read == 3

    async with connect(server.url, token=mint("alice"), start_wait=60) as chat:
        await until_async(is_read)


async def test_a_killed_connection_is_resumed(visit: Visit) -> None:
    async with running() as server:
        alice, bob = await visit("alice", "cut", at=server), await visit("bob", "cut", at=server)
        await alice.page.context.set_offline(True)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await bob.online()
        await bob.say("can you hear me?")
        await bob.sees(["can you hear me?"])
        await alice.page.context.set_offline(False)
        await alice.sees(["can you hear me?"])


async def test_an_expired_token_leads_back_to_signing_in(visit: Visit) -> None:
    environ = {"CHAT_GATEWAY__REFRESH_GRACE_SECONDS": "0", "CHAT_AUTH__LEEWAY_SECONDS": "0"}
    async with running(environ=environ) as server:
        alice = await visit(at=server)
        await alice.follow(mint("alice", ttl_seconds=5), "lobby")
        await expect(alice.page.get_by_role("alert")).to_have_text("Your sign-in has expired.")
        await expect(alice.page.get_by_label("Token")).to_be_focused()
        assert await alice.page.evaluate("sessionStorage.getItem('chat.token')") is None


async def test_what_was_not_sent_outlives_signing_in_again(visit: Visit) -> None:
    async with running() as server:
        alice = await visit("alice", "kept", at=server)
        await asyncio.to_thread(server.stop)
        await alice.say("not lost")
        strict = {"CHAT_AUTH__ISSUER": "somebody else"}
        async with running(port=server.port, environ=strict):
            await expect(alice.page.get_by_role("alert")).to_contain_text("sign-in has expired or")
        await asyncio.to_thread(server.start)
        await alice.page.get_by_label("Token").fill(mint("alice"))
        await alice.page.get_by_role("button", name="Sign in").click()
        await expect(alice.outbox).to_contain_text("Not sent. Your sign-in has expired")
        await alice.outbox.get_by_role("button", name="Try again").click()
        await alice.sees(["not lost"])


async def test_who_writes_too_fast_waits_and_loses_nothing(visit: Visit) -> None:
    environ = {"CHAT_LIMITS__MESSAGES_PER_SECOND": "0.5", "CHAT_LIMITS__MESSAGE_BURST": "3"}
    async with running(environ=environ) as server:
        alice = await visit("alice", "fast", at=server)
        texts = [f"m{n}" for n in range(5)]
        for text in texts:
            await alice.say(text)
        await expect(alice.outbox.first.locator(".note")).to_contain_text("writing too fast")
        await alice.sees(texts)


async def test_the_browser_client_obeys_the_same_close_codes() -> None:
    source = "".join(file.read_text() for file in sorted(WEB.glob("client*.js")))

    def table(name: str) -> set[int]:
        match = re.search(rf"const {name} = new Set\(\[([\d, ]+)\]\)", source)
        assert match
        return {int(code) for code in match[1].split(",")}

    assert table("STOP") == STOP
    assert table("LONG_BACKOFF") == LONG_BACKOFF
