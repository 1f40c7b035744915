"""A server has forgotten everything: what the client asks of a message never reaches another."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_server.client import Client, CommandFailed, Message, connect
from chat_server.client.codec import Encoding
from tests.client.helpers import QUICK
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until

TOPIC = "room:a"
ANEW = "not_found: epoch: the topic has begun anew since, without"


@pytest.fixture
async def server() -> AsyncIterator[ServerProcess]:
    """A server with the memory broker."""
    running = ServerProcess(environ=QUICK)
    await asyncio.to_thread(running.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def stored(chat: Client) -> list[Message]:
    await chat.wait_online()
    return (await chat.history(TOPIC)).messages


async def test_a_stream_does_not_go_on_in_another_message(server: ServerProcess) -> None:
    async with (
        connect(server.url, token=lambda: mint("bot")) as bot,
        connect(server.url, token=lambda: mint("bot")) as other,
    ):
        message = await bot.stream(TOPIC, {"text": "one: "}).__aenter__()
        await message.write("before ")
        await until(lambda: message.text == "one: before ")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        place = await other.publish(TOPIC, {"text": "another"}, key="k", wait=True)
        assert (place.seq, place.epoch != message.epoch) == (message.seq, True)
        await message.write("after ")
        with pytest.raises(CommandFailed, match=ANEW):
            await message.__aexit__(None, None, None)
        assert message.text == "one: before "
        (only,) = await stored(other)
        assert (only.data, only.state, only.version) == ({"text": "another"}, None, None)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_change_of_an_epoch_reaches_no_other_message(
    server: ServerProcess, encoding: Encoding
) -> None:
    async with connect(server.url, token=lambda: mint("ann"), encoding=encoding) as ann:
        lost = await ann.publish(TOPIC, {"text": "one"})
        await ann.react(TOPIC, lost.seq, "👍", epoch=lost.epoch)
        await ann.read(TOPIC, lost.seq, epoch=lost.epoch)
        await asyncio.to_thread(server.stop)
        # It waits over the restart, as it was meant.
        waiting = asyncio.create_task(
            ann.delete(TOPIC, lost.seq, epoch=lost.epoch, key="k", wait=True)
        )
        await asyncio.to_thread(server.start)
        place = await ann.publish(TOPIC, {"text": "another"}, key="k", wait=True)
        with pytest.raises(CommandFailed, match=ANEW):
            await waiting
        named: dict[str, Any] = {"epoch": lost.epoch}
        for change in (
            ann.edit(TOPIC, lost.seq, 1, **named),
            ann.append(TOPIC, lost.seq, "x", **named),
            ann.delete(TOPIC, lost.seq, **named),
            ann.react(TOPIC, lost.seq, "x", **named),
            ann.read(TOPIC, lost.seq, **named),
        ):
            with pytest.raises(CommandFailed, match=ANEW):
                await change
        (only,) = await stored(ann)
        assert (only.seq, only.data, only.version) == (place.seq, {"text": "another"}, None)
        page = await ann.history(TOPIC)
        await ann.edit(TOPIC, only.seq, {"text": "new"}, epoch=page.epoch)
        await ann.edit(TOPIC, only.seq, {"text": "newer"})
        assert [each.data for each in await stored(ann)] == [{"text": "newer"}]
