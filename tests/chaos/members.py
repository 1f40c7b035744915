"""Members: users with several connections that come and go, and watch each other's presence."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .client import BareClient, Lost
from .config import Config
from .presence import Page, Sighting, changes_of, check_page, check_presence, fold, page_of
from .system import PRESENCE_SECONDS, System
from .violation import Violation
from .workload import ANSWER_SECONDS, RETRY_SECONDS, Counts, wait_of

POLL_SECONDS = 0.2
GO_SECONDS = 0.02
SEATS = 3
"""Connections of each member, on random workers."""

STAY_SECONDS = 4.0
AWAY_SECONDS = 1.5
"""Seconds: the mean time of a connection in the topic, and away. Being away takes about as long as
`presence_grace_seconds`, so some connections return in time.
"""


class Members:
    """All members, and the time limit until all of them know the presence.

    Args:
        readers: by topic the other users present, with the number of their connections.

    Attributes:
        moving: while set, members come and go.
    """

    def __init__(
        self,
        config: Config,
        system: System,
        url: str,
        counts: Counts,
        readers: Mapping[str, Counter[str]],
    ) -> None:
        self.moving = asyncio.Event()
        self._seconds = min(PRESENCE_SECONDS, config.patience)
        self._counts = counts
        self._readers = readers
        self._seats: list[Seat] = []
        for number in range(config.members):
            user, topic = f"member{number}", config.topics[number % config.rooms]
            token, alone = system.mint(user, "presence"), not system.shards
            for seat in range(SEATS):
                # Of every second member one connection stays.
                stays = number % 2 == 1 and seat == 0
                self._seats.append(
                    Seat(user, seat, url, token, topic, counts, stays=stays, alone=alone)
                )

    @property
    def violations(self) -> list[Violation]:
        """Impossible messages that members received at any time."""
        return [violation for seat in self._seats for violation in seat.violations]

    def start(self) -> list[asyncio.Task[None]]:
        """Let the members come and go; return the tasks to cancel."""
        return [asyncio.create_task(seat.run(self.moving)) for seat in self._seats]

    async def go(self) -> None:
        """Let all moving members leave, until `moving` is set again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    going = [await seat.go() for seat in self._seats]
                    if not any(going):
                        return
                    await asyncio.sleep(GO_SECONDS)

    async def settle(self, *others: str) -> list[Violation]:
        """Wait until all present members know the presence; return wrong views.

        Args:
            others: further users with one connection to every topic.
        """
        began = time.monotonic()
        while True:
            for seat in self._seats:
                await seat.ask()
            await asyncio.sleep(POLL_SECONDS)
            wrong = self._wrong(others)
            took = time.monotonic() - began
            if not wrong or took > self._seconds:
                self._counts.longest_presence = max(self._counts.longest_presence, took)
                return wrong

    def _wrong(self, others: Sequence[str]) -> list[Violation]:
        connected = {topic: users + Counter(others) for topic, users in self._readers.items()}
        for seat in self._seats:
            connected[seat.topic][seat.user] += seat.here
        sightings = [seat.sighting for seat in self._seats if not seat.away]
        return list(check_presence(sightings, {t: +users for t, users in connected.items()}))


class Seat:
    """One connection of a member to a topic: comes, watches, leaves, and returns.

    Args:
        user: the member.
        number: the number of the member's connection.
        stays: True never leaves voluntarily.
        alone: True if the server is a single process without failures, so no user may seem lost.

    Attributes:
        here: True if the connection is subscribed, as far as it knows.
        away: True if the connection has left voluntarily.
        violations: impossible messages that the connection received.
    """

    def __init__(
        self,
        user: str,
        number: int,
        url: str,
        token: str,
        topic: str,
        counts: Counts,
        *,
        stays: bool,
        alone: bool,
    ) -> None:
        self.user = user
        self.name = f"{user}.{number}"
        self.topic = topic
        self.here = self.away = False
        self.violations: list[Violation] = []
        self._url = url
        self._token = token
        self._counts = counts
        self._stays = stays
        self._alone = alone
        self._rng = random.Random(self.name)
        self._client: BareClient | None = None
        self._forget()

    def _forget(self) -> None:
        self.here = False
        self._present: set[str] = set()
        self._listed: Page | None = None
        self._sure = False
        # Questions by id, and the last one whose answer replaces what was told until then.
        self._asked: set[int] = set()
        self._anew = 0
        # Set while it is on its way out, though it was not yet time to go.
        self._going = 0
        self._since: list[dict[str, Any]] = []

    @property
    def sighting(self) -> Sighting:
        """The connection's view of its topic."""
        believed = self._present if self.here and not self._anew else None
        return Sighting(self.topic, self.name, believed, self._listed)

    async def go(self) -> bool:
        """Leave the topic, unless the connection stays; return True while leaving."""
        if self._stays or not self.here or self._client is None:
            return False
        if not self._going:
            self._going = self._id()
            with suppress(Lost):
                await self._client.send(self._farewell(self._going))
        return True

    def _farewell(self, number: int) -> dict[str, Any]:
        return {"type": "unsubscribe", "id": number, "topic": self.topic}

    async def ask(self) -> None:
        """Ask for the page, unless an earlier question is unanswered."""
        if self.here and not self._asked and self._client is not None:
            with suppress(Lost):
                await self._ask(self._client)

    async def run(self, moving: asyncio.Event) -> None:
        """Come and go until cancelled; pause while `moving` is not set."""
        while True:
            try:
                async with BareClient(
                    self._url, self._token, binary=self._rng.random() < 0.5
                ) as self._client:
                    await self._visit(self._client, moving)
            except Lost as error:
                self._counts.closes[str(error)] += 1
                self._forget()
                await asyncio.sleep(self._rng.uniform(0, 2 * RETRY_SECONDS))
            else:
                self._forget()
                await self._stay_away(moving)

    async def _visit(self, client: BareClient, moving: asyncio.Event) -> None:
        """Return to the topic, every second time over the same connection."""
        while True:
            await self._subscribe(client)
            await self._watch(client, moving)
            if self._rng.random() < 0.5:
                return
            await client.send(self._farewell(self._id()))
            self._forget()
            await self._stay_away(moving)

    async def _stay_away(self, moving: asyncio.Event) -> None:
        self.away = True
        await asyncio.sleep(self._rng.expovariate(1 / AWAY_SECONDS))
        await moving.wait()
        self.away = False

    async def _subscribe(self, client: BareClient) -> None:
        command = {"type": "subscribe", "topic": self.topic, "presence": True}
        while (answer := await self._answer(client, command))["type"] == "error":
            self._counts.errors[answer["code"]] += 1
            await asyncio.sleep(RETRY_SECONDS)
        self.here = True
        self._present = self._users(page_of(answer["presence"]))
        # Behind the answer nobody is told any more of what was before the subscription.
        await self._ask(client)

    async def _answer(self, client: BareClient, command: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a command; ignore messages before it."""
        number = self._id()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.send({**command, "id": number})
                while (message := await client.receive()).get("id") != number:
                    await self._obey(message)
                return message
        except TimeoutError:
            raise Lost("no answer to subscribe") from None

    async def _watch(self, client: BareClient, moving: asyncio.Event) -> None:
        """Read until the time to leave."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._rng.expovariate(1 / STAY_SECONDS)
        while True:
            try:
                async with asyncio.timeout_at(None if self._stays else until):
                    message = await client.receive()
            except TimeoutError:
                if moving.is_set():
                    return
                until = loop.time() + self._rng.expovariate(1 / STAY_SECONDS)
                continue
            await self._obey(message)
            if self._going and message.get("id") == self._going:
                return
            if message.get("id") in self._asked:
                await self._on_answer(client, message)
            elif message.get("topic") == self.topic:
                await self._on_push(client, message)

    async def _obey(self, message: dict[str, Any]) -> None:
        if message["type"] == "goodbye":
            await asyncio.sleep(wait_of(message, "reconnect_in_ms"))
            raise Lost("goodbye")

    async def _on_answer(self, client: BareClient, answer: dict[str, Any]) -> None:
        self._asked.discard(answer["id"])
        anew = answer["id"] == self._anew
        if answer["type"] == "error":
            self._counts.errors[answer["code"]] += 1
            if anew:
                await asyncio.sleep(RETRY_SECONDS)
                await self._ask(client, anew=True)
            return
        self._listed, self._sure = page_of(answer), True
        users = self._users(self._listed)
        if anew:
            self._present, self._anew = fold(users, self._since), 0

    async def _on_push(self, client: BareClient, push: dict[str, Any]) -> None:
        joined, left = changes_of(push)
        self._counts.presence_changes += len(joined) + len(left)
        if self._alone and self._sure and self.user in left:
            self._violate([Violation("sent away", self.topic, 0, self.name, f"it is here: {push}")])
        self._present = fold(self._present, [push])
        self._since.append(push)
        if push.get("more"):
            await self._ask(client, anew=True)

    async def _ask(self, client: BareClient, *, anew: bool = False) -> None:
        """Ask for the page.

        Args:
            anew: True replaces all earlier knowledge by the page, with the pushes until its
                arrival.
        """
        number = self._id()
        self._asked.add(number)
        self._listed = None
        if anew:
            self._anew, self._since = number, []
        await client.send({"type": "presence", "id": number, "topic": self.topic})

    def _users(self, page: Page) -> set[str]:
        self._violate(check_page(self.topic, self.name, page))
        return {user for user, _ in page.users}

    def _violate(self, violations: Iterable[Violation]) -> None:
        self.violations += violations

    def _id(self) -> int:
        return self._rng.randrange(1, 2**40)
