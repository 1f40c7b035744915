"""Operators' announcements under faults: every connected client gets each announcement once."""

import asyncio
import random
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

from .client import BareClient, Lost
from .orders import Orders
from .violation import Violation

TOPIC = "system:announcements"
LISTENERS = 6
PAUSE_SECONDS = 0.2


class Announcements:
    """The listeners, and the operator who announces.

    Args:
        orders: sends the orders.
        url: the clients' address.
        token: the listeners' token.
        moods: random times.
        violations: receives missing and repeated announcements.

    Attributes:
        heard: number of checks of a connection for a confirmed announcement.
    """

    def __init__(
        self,
        orders: Orders,
        url: str,
        token: str,
        moods: random.Random,
        violations: list[Violation],
    ) -> None:
        self.heard = 0
        self._orders = orders
        self._url = url
        self._token = token
        self._random = moods
        self._violations = violations
        self._live: dict[BareClient, Listener] = {}

    def work(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield the coroutines to run: many listeners, one announcer."""
        yield from (self._listen(f"listener{number}") for number in range(LISTENERS))
        yield self._speak()

    async def _speak(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            number += 1
            live = list(self._live.items())
            # Never again with this number: it may be told even if that was not answered.
            answer = await self._orders.give("announce", data=number)
            confirmed = [] if answer is None else answer["confirmed"]
            for client, listener in live:
                if listener.server in confirmed:
                    with suppress(Lost):
                        await client.send({"type": "ping", "id": number})

    async def _listen(self, name: str) -> None:
        """Connect and listen repeatedly."""
        while True:
            with suppress(Lost):
                async with BareClient(self._url, self._token, binary=False) as client:
                    await self._hear(name, client)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _hear(self, name: str, client: BareClient) -> None:
        """Record all messages of one connection until its end."""
        welcome = await client.receive()
        if welcome["type"] != "welcome":
            return
        self._live[client] = listener = Listener(name, welcome["server"], self._violations)
        try:
            while True:
                self.heard += listener.look(await client.receive())
        finally:
            del self._live[client]


class Listener:
    """One connection of a user without subscriptions.

    Args:
        name: the name of the listener.
        server: the worker of the connection.
        violations: receives missing and repeated announcements.
    """

    def __init__(self, name: str, server: str, violations: list[Violation]) -> None:
        self.name = name
        self.server = server
        self._violations = violations
        self._heard: set[int] = set()

    def look(self, message: dict[str, Any]) -> bool:
        """Check a message; return True if the message verifies an announcement.

        The `pong` with an announcement's number must follow the announcement, if the worker had
        confirmed the announcement before the `ping` was sent.
        """
        if message["type"] == "signal":
            if message["data"] in self._heard:
                self._found("announced twice", message["data"])
            self._heard.add(message["data"])
        if message["type"] != "pong":
            return False
        if message["id"] not in self._heard:
            self._found("not announced", message["id"])
        return True

    def _found(self, kind: str, number: int) -> None:
        detail = f"announcement {number} over a connection to {self.server}"
        self._violations.append(Violation(kind, TOPIC, 0, self.name, detail))
