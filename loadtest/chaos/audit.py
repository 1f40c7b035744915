"""What the server itself has stored, read when nobody publishes."""

import asyncio
import time
from typing import Any

from chat_server.events import Position

from ..wire import LoadError
from .people import name_of
from .record import Entered, Seen, Trail
from .wire import Lost, Wire

PAGE = 50
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 0.1

HARMLESS = {"unavailable"}
"""Errors that faults may cause."""


class Auditor:
    """Reads history; a connection that is lost meanwhile is made anew.

    Args:
        token: of a user who may read all topics.
    """

    def __init__(self, url: str, token: str, topics: list[str]) -> None:
        self._url = url
        self._token = token
        self._topics = topics

    async def positions(self) -> dict[str, Position]:
        """Return where each topic stands."""
        return {trail.topic: end_of(trail) for trail in await self._read(whole=False)}

    async def history(self) -> list[Trail]:
        """Return all that is stored, each topic as if somebody had been there from its start."""
        return await self._read(whole=True)

    async def _read(self, *, whole: bool) -> list[Trail]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            trails = [Trail("history", topic) for topic in self._topics]
            try:
                async with Wire(self._url, self._token, binary=False) as wire:
                    for trail in trails:
                        await _read_topic(wire, trail, whole=whole)
                return trails
            except Lost as error:  # a worker that is just being replaced may have had it
                if time.monotonic() > deadline:
                    raise LoadError(f"the server cannot be reached: {error}") from None
                await asyncio.sleep(RETRY_SECONDS)


def end_of(trail: Trail) -> Position:
    """Return where a trail of history ends."""
    start, last = trail.entries[0], trail.entries[-1]
    assert isinstance(start, Entered)
    return Position(start.epoch, last.seq if isinstance(last, Seen) else start.seq)


async def _read_topic(wire: Wire, trail: Trail, *, whole: bool) -> None:
    """Read a topic's history, or the last of it, into a trail."""
    command = {"type": "history", "topic": trail.topic, "limit": PAGE if whole else 1}
    after = 0
    while True:
        page = await _ask(wire, {**command, "after": after} if whole else command)
        for message in page["messages"]:
            if not trail.entries:
                trail.entries.append(_start(page["epoch"], message["seq"] - 1))
            after = message["seq"]
            trail.entries.append(Seen(after, name_of(message["data"])))
        if not (whole and page["more"]):
            break
    if not trail.entries:
        trail.entries.append(_start(page["epoch"], 0))


def _start(epoch: str, seq: int) -> Entered:
    return Entered(epoch, seq, recovered=False, replayed=0)


async def _ask(wire: Wire, command: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a command, which is repeated while the server cannot carry it out."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        await wire.send({**command, "id": 1})
        answer = await wire.receive()
        while answer.get("id") != 1:
            answer = await wire.receive()
        if answer["type"] == "ok":
            return answer
        if answer["code"] not in HARMLESS or time.monotonic() > deadline:
            raise LoadError(f"the server refuses {command}: {answer}")
        await asyncio.sleep(RETRY_SECONDS)
