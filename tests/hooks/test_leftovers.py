"""What a hook decides leaves nothing to the garbage collector, which looks at a server rarely."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from chat_server import errors
from chat_server.extension import ChatServer

from ..performance.calls import Peer
from .conftest import chat_server


def passes(subject: Any) -> None: ...


async def looks(publication: Any) -> None:
    await asyncio.sleep(0)
    assert publication.data == 1


async def refuses(subject: Any) -> None:
    raise errors.Forbidden("no")


async def fails(subject: Any) -> None:
    raise ZeroDivisionError


async def is_late(subject: Any) -> None:
    await asyncio.Event().wait()


PUBLISH = {"type": "publish", "topic": "room:a", "data": 1}
HISTORY = {"type": "history", "topic": "room:a"}
CALL = {"type": "call", "method": "m", "data": 1}


@pytest.mark.parametrize("hook", [passes, looks, refuses, fails, is_late])
@pytest.mark.parametrize("command", [PUBLISH, HISTORY, CALL], ids=["publish", "history", "call"])
async def test_nothing_is_left(hook: Callable[[Any], Any], command: dict[str, Any]) -> None:
    server: ChatServer = chat_server(hooks__timeout_seconds=0.01 if hook is is_late else 5.0)
    if hook is looks and command is HISTORY:
        return
    server.on_publish(hook)
    server.on_subscribe(hook)
    server.on_call("m")(hook)
    await server.start()
    peer = Peer(server.service, "ada")
    await peer.hears(b"welcome")

    async def give(first: int, last: int) -> None:
        for number in range(first, last):
            peer.forget()
            peer.say(**command, id=number)
            await peer.hears(b'"id":%d' % number)

    await give(1, 5)  # what happens once is no leftover
    gc.collect()
    gc.disable()
    try:
        await give(10, 20)
        await asyncio.sleep(0)
        found = gc.collect()
    finally:
        gc.enable()
    peer.socket.lose()
    await server.stop()
    assert found < 10, f"{found} objects of 10 commands"
