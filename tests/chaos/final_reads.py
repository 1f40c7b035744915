"""Reads the server's stored events after the end of publishing."""

import asyncio
import time
from typing import Any

from chat_server.events import Position
from loadtest.wire import LoadError

from .client import BareClient, Lost
from .folding import shown
from .history import Shown, Stored

PAGE = 50
PATIENCE_SECONDS = 90.0
RETRY_SECONDS = 0.1

EXPECTED_ERRORS = {"unavailable"}
"""Errors that faults may cause."""


class FinalReads:
    """Reads history, and reconnects after a lost connection.

    Args:
        token: the token of a user with read access to all topics.
    """

    def __init__(self, url: str, token: str, topics: list[str]) -> None:
        self._url = url
        self._token = token
        self._topics = topics

    async def positions(self) -> dict[str, Position]:
        """Return the position of each topic."""
        return {stored.topic: stored.position for stored in await self._read(whole=False)}

    async def stored(self) -> list[Stored]:
        """Return all stored messages."""
        return await self._read(whole=True)

    async def _read(self, *, whole: bool) -> list[Stored]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                async with BareClient(self._url, self._token, binary=False) as client:
                    return [await _read_topic(client, t, whole=whole) for t in self._topics]
            except Lost as error:  # a worker that is just being replaced may have had it
                if time.monotonic() > deadline:
                    raise LoadError(f"the server cannot be reached: {error}") from None
                await asyncio.sleep(RETRY_SECONDS)


async def _read_topic(client: BareClient, topic: str, *, whole: bool) -> Stored:
    """Read the position of a topic, and its history."""
    here = await _ask(client, {"type": "subscribe", "topic": topic})
    await _ask(client, {"type": "unsubscribe", "topic": topic})
    messages: list[Shown] = []
    more = whole
    while more:
        after = messages[-1].seq if messages else 0
        page = await _ask(
            client, {"type": "history", "topic": topic, "limit": PAGE, "after": after}
        )
        messages += map(shown, page["messages"])
        more = page["more"]
    return Stored(topic, Position(here["epoch"], here["seq"]), messages)


async def _ask(client: BareClient, command: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a command; repeat the command while the server is unavailable."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        await client.send({**command, "id": 1})
        answer = await client.receive()
        while answer.get("id") != 1:
            answer = await client.receive()
        if answer["type"] == "ok":
            return answer
        if answer["code"] not in EXPECTED_ERRORS or time.monotonic() > deadline:
            raise LoadError(f"the server refuses {command}: {answer}")
        await asyncio.sleep(RETRY_SECONDS)
