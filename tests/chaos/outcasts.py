"""Users whom an operator blocks and lets in again, under faults: who is blocked is not served."""

import asyncio
import json
import random
import time
from contextlib import suppress
from typing import Any

from ..rig.raw_client import request
from .client import BareClient, Lost
from .system import System
from .violation import Violation

USERS = 2
CONNECTIONS = 3
"""Of each: on all workers, by chance."""

TOPIC = "short:0"
"""Where others talk, and nobody looks who is there."""

CONFIRMED_SECONDS = 1.0
"""By then a worker that has confirmed serves the user no more, if it did so on the way."""

MISSING_SECONDS = 15.0
"""By then a worker that did not answer has woken, or is gone: longer than any fault."""

ORDER_SECONDS = 10.0
PAUSE_SECONDS = 0.2


class Outcasts:
    """The users, and the operator.

    Args:
        system: the server.
        url: where clients connect.
        seed: of the operator's moods.
        patience: seconds in which all must be well once there are no faults.

    Attributes:
        violations: how who is blocked was served.
        blocks: blocks that were confirmed, by all workers or by some.
    """

    def __init__(self, system: System, url: str, seed: int, patience: float) -> None:
        self._port = system.front.port
        self._token = system.mint("operator", "admin")
        self._random = random.Random(seed)
        self._patience = patience
        self.violations: list[Violation] = []
        self.blocks = 0
        self._users = [
            Outcast(name, url, system.mint(name), self.violations)
            for name in (f"outcast{number}" for number in range(USERS))
        ]

    def start(self) -> list[asyncio.Task[None]]:
        """Have them come, and be blocked; return what is to be cancelled."""
        seats = [user.sit() for user in self._users for _ in range(CONNECTIONS)]
        return [asyncio.create_task(each) for each in (*seats, *map(self._moderate, self._users))]

    async def settle(self) -> list[Violation]:
        """Wait until all are in who may be; return who is not."""
        for user in self._users:
            user.expected.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while True:
                    if all(len(user.seated) == CONNECTIONS for user in self._users):
                        break
                    await asyncio.sleep(PAUSE_SECONDS)
        kept_out = [
            Violation("kept out", TOPIC, 0, user.name, f"{len(user.seated)} connections are in")
            for user in self._users
            if len(user.seated) < CONNECTIONS
        ]
        for user in self._users:
            user.expected.clear()
        return kept_out

    async def _moderate(self, user: "Outcast") -> None:
        """Block a user and let the user in again, and so on; not while all is to be settled."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            if user.expected.is_set():
                continue
            answer = await self._order("block", user=user.name, seconds=3_600)
            self.blocks += 1
            grace = MISSING_SECONDS if answer["missing"] else CONFIRMED_SECONDS
            user.barred_at = time.time() + grace
            await asyncio.sleep(grace + self._random.uniform(0.5, 2.0))
            user.barred_at = None
            await self._order("unblock", user=user.name)

    async def _order(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Give an order until it is taken."""
        headers = {"Authorization": f"Bearer {self._token}"}
        body = json.dumps({**fields, "reason": "chaos"}).encode()
        while True:
            with suppress(OSError, TimeoutError, ValueError, AssertionError):
                async with asyncio.timeout(ORDER_SECONDS):
                    answer = await request(
                        self._port, "POST", f"/api/admin/{verb}", headers=headers, body=body
                    )
                if answer.status == 200:
                    taken: dict[str, Any] = answer.json()
                    return taken
            await asyncio.sleep(PAUSE_SECONDS)


class Outcast:
    """A user who tries to come in with several connections.

    Args:
        name: of the user.
        url: where to connect.
        token: of the user.
        violations: how the user was served while blocked; more is added.

    Attributes:
        barred_at: seconds since 1970 from which on the user is not served; None if the user may be.
        seated: the connections that are subscribed.
        expected: set while the user has to be let in, and is not to be blocked.
    """

    def __init__(self, name: str, url: str, token: str, violations: list[Violation]) -> None:
        self.name = name
        self.barred_at: float | None = None
        self.seated: set[object] = set()
        self.expected = asyncio.Event()
        self._url = url
        self._token = token
        self._violations = violations

    async def sit(self) -> None:
        """Connect, subscribe and listen, again and again."""
        while True:
            seat = object()
            began = time.time()
            with suppress(Lost):
                async with BareClient(self._url, self._token, binary=False) as client:
                    await client.send({"type": "subscribe", "id": 1, "topic": TOPIC})
                    while True:
                        self.look(await client.receive(), seat, began)
            self.seated.discard(seat)
            await asyncio.sleep(PAUSE_SECONDS)

    def look(self, message: dict[str, Any], seat: object, began: float) -> None:
        """Look whether the user may be sent this."""
        kind = message["type"]
        if kind == "ok":
            self.seated.add(seat)
        # What was written before may come late through a network that is held.
        at = message["at"] / 1_000 if kind == "message" else began if kind == "welcome" else 0.0
        if self.barred_at is not None and at > self.barred_at:
            late = at - self.barred_at
            detail = f"a {kind} {late:.1f} s after nobody was to serve the user any more"
            self._violations.append(
                Violation("served", TOPIC, message.get("seq", 0), self.name, detail)
            )
