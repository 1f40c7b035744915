"""A bystander: somebody in a room, minding their own business.

The fixture `room` gives a test a topic of its own with a subscriber in it. When the test is over,
`check_undisturbed` fails unless that subscriber is still connected and got nothing strange.
"""

import asyncio
import itertools
from types import TracebackType
from typing import Any, Self

from tests.rig.chat_client import Chat, chat
from tests.rig.raw_client import request
from tests.rig.server import ServerProcess
from tests.rig.tokens import forge
from tests.rig.waiting import SECONDS

_NUMBERS = itertools.count(1)

ANY = {"subscribe": ["**"], "publish": ["**"], "history": ["**"]}


def token(sub: str = "mallory", **claims: Any) -> str:
    """Return a token for everything that every server of these tests accepts."""
    return forge(**{"sub": sub, "aud": "chat", "topics": ANY, **claims})


class Room:
    """A topic of the test's own with a bystander subscribed to it."""

    def __init__(self, topic: str, bystander: Chat) -> None:
        self.topic = topic
        self.bystander = bystander

    @classmethod
    async def open(cls, server: ServerProcess) -> Self:
        """Enter a room that nobody has used."""
        topic = f"room:{next(_NUMBERS)}"
        bystander = await chat(server.ws_url, token("bystander"))
        await bystander.ok(type="subscribe", topic=topic)
        return cls(topic, bystander)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.bystander.websocket.close()

    async def check_undisturbed(self) -> None:
        """Fail unless the bystander is still there and has received nothing strange."""
        await self.bystander.ok(type="publish", topic=self.topic, data="still here")
        while (message := await self.bystander.next())["type"] == "message":
            if message["data"] == "still here":
                return
        raise AssertionError(f"the bystander received {message}")


async def count_connections(server: ServerProcess) -> int:
    """Return how many connections the server says it has."""
    health = await request(server.port, "GET", "/health")
    connections: int = health.json()["connections"]
    return connections


async def settle(server: ServerProcess, connections: int, seconds: float = SECONDS) -> None:
    """Wait until the server has no more connections than that."""
    async with asyncio.timeout(seconds):
        while True:
            if await count_connections(server) <= connections:
                return
            await asyncio.sleep(0.02)
