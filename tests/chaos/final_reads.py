"""What the server itself has stored, read when nobody publishes."""

import asyncio
import time
from typing import Any

from chat_server.events import Position
from loadtest.wire import LoadError

from .client import BareClient, Lost
from .history import Observations, Received, Subscribed
from .workload import name_of

PAGE = 50
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 0.1

EXPECTED_ERRORS = {"unavailable"}
"""Errors that faults may cause."""


class FinalReads:
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
        return {observed.topic: end_of(observed) for observed in await self._read(whole=False)}

    async def history(self) -> list[Observations]:
        """Return all that is stored, each topic as if somebody had been there from its start."""
        return await self._read(whole=True)

    async def _read(self, *, whole: bool) -> list[Observations]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            observers = [Observations("history", topic) for topic in self._topics]
            try:
                async with BareClient(self._url, self._token, binary=False) as client:
                    for observed in observers:
                        await _read_topic(client, observed, whole=whole)
                return observers
            except Lost as error:  # a worker that is just being replaced may have had it
                if time.monotonic() > deadline:
                    raise LoadError(f"the server cannot be reached: {error}") from None
                await asyncio.sleep(RETRY_SECONDS)


def end_of(observed: Observations) -> Position:
    """Return the last position of a topic that was read."""
    start, last = observed.entries[0], observed.entries[-1]
    assert isinstance(start, Subscribed)
    return Position(start.epoch, last.seq if isinstance(last, Received) else start.seq)


async def _read_topic(client: BareClient, observed: Observations, *, whole: bool) -> None:
    """Read the history of a topic, or only its last event, into `observed`."""
    command = {"type": "history", "topic": observed.topic, "limit": PAGE if whole else 1}
    after = 0
    while True:
        page = await _ask(client, {**command, "after": after} if whole else command)
        for message in page["messages"]:
            if not observed.entries:
                observed.entries.append(_start(page["epoch"], message["seq"] - 1))
            after = message["seq"]
            observed.entries.append(Received(after, name_of(message["data"])))
        if not (whole and page["more"]):
            break
    if not observed.entries:
        observed.entries.append(_start(page["epoch"], 0))


def _start(epoch: str, seq: int) -> Subscribed:
    return Subscribed(epoch, seq, recovered=False, replayed=0)


async def _ask(client: BareClient, command: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a command, which is repeated while the server cannot carry it out."""
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
