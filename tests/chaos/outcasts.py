"""Users who are blocked, or whose tokens are revoked, under faults: none of them is served."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import jwt
from msgspec import Struct

from chat_server.settings import load_settings

from .client import BareClient, Lost
from .orders import Orders
from .violation import Violation

WAYS = ("block", "block", "jti", "user", "kid")
"""How each of the users is kept out: blocked, or by what the token is revoked."""

CONNECTIONS = 3
"""Of each: on all workers, by chance."""

TOPIC = "short:0"
"""Where others talk, and nobody looks who is there."""

CONFIRMED_SECONDS = 1.0
"""By then a worker that has confirmed serves the user no more, if it did so on the way."""

LASTS_SECONDS = 3_600
PAUSE_SECONDS = 0.2


class Pass(Struct, eq=False):
    """A token.

    Args:
        name: its `jti` and its `kid`, and no other's.
        barred_at: seconds since 1970 from which on it is not served; None if it may be.
    """

    name: str
    token: str
    barred_at: float | None = None


def sign(name: str, token: str) -> Pass:
    """Return a token that can be revoked by its name, made of one that bears none."""
    claims = jwt.decode(token, options={"verify_signature": False})
    secret = load_settings().auth.secret
    return Pass(name, jwt.encode({**claims, "jti": name}, secret, headers={"kid": name}))


class Outcasts:
    """The users, and who keeps them out.

    Args:
        orders: gives the orders.
        mint: makes a token for a user.
        url: where clients connect.
        moods: decide when.
        violations: how who is kept out was served; more is added.
    """

    def __init__(
        self,
        orders: Orders,
        mint: Callable[[str], str],
        url: str,
        moods: random.Random,
        violations: list[Violation],
    ) -> None:
        self._orders = orders
        self._random = moods
        self._users = [
            Outcast(f"outcast{number}", way, mint, url, violations)
            for number, way in enumerate(WAYS)
        ]

    def work(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what is to run: they come, are kept out, and come again."""
        for user in self._users:
            yield from (user.sit() for _ in range(CONNECTIONS))
            yield user.haunt()
            yield self._keep_out(user)

    async def settle(self, patience: float) -> list[Violation]:
        """Wait until all are in who may be; return who is not after so many seconds."""
        for user in self._users:
            user.expected.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
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

    async def _keep_out(self, user: "Outcast") -> None:
        """Keep a user out and let the user in again, and so on; not while all is to be settled."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            if user.expected.is_set():
                continue
            verb = "block" if user.way == "block" else "revoke"
            answer = await self._orders.insist(verb, **user.target, seconds=LASTS_SECONDS)
            grace = self._orders.late if answer["missing"] else CONFIRMED_SECONDS
            user.passes[-1].barred_at = time.time() + grace
            await asyncio.sleep(grace + self._random.uniform(0.5, 2.0))
            if user.way == "block":
                user.passes[-1].barred_at = None
                await self._orders.insist("unblock", user=user.name)
            else:
                user.renew()


class Outcast:
    """A user who tries to come in with several connections.

    Args:
        name: of the user.
        way: one of `WAYS`.
        mint: makes a token for a user.
        url: where to connect.
        violations: how the user was served while kept out; more is added.

    Attributes:
        passes: the user's tokens, of which only the last may be good.
        seated: the connections that are subscribed.
        expected: set while the user has to be let in, and is not to be kept out.
    """

    def __init__(
        self,
        name: str,
        way: str,
        mint: Callable[[str], str],
        url: str,
        violations: list[Violation],
    ) -> None:
        self.name = name
        self.way = way
        self.passes: list[Pass] = []
        self.seated: set[object] = set()
        self.expected = asyncio.Event()
        self._mint = mint
        self._url = url
        self._violations = violations
        self.renew()

    @property
    def target(self) -> dict[str, str]:
        """Whom or what an order is to name."""
        if self.way in ("jti", "kid"):
            return {self.way: self.passes[-1].name}
        return {"user": self.name}

    def renew(self) -> None:
        """Take a new token."""
        self.passes.append(sign(f"{self.name}-{len(self.passes)}", self._mint(self.name)))

    async def sit(self) -> None:
        """Connect, subscribe and listen, again and again."""
        while True:
            seat = object()
            await self._come(self.passes[-1], seat)
            self.seated.discard(seat)
            await asyncio.sleep(PAUSE_SECONDS)

    async def haunt(self) -> None:
        """Try, again and again, to come in with a token that was revoked earlier."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            if len(self.passes) > 1:
                await self._come(random.choice(self.passes[:-1]), None)

    async def _come(self, by: Pass, seat: object | None) -> None:
        began = time.time()
        with suppress(Lost):
            async with BareClient(self._url, by.token, binary=False) as client:
                await client.send({"type": "subscribe", "id": 1, "topic": TOPIC})
                while True:
                    message = await client.receive()
                    if seat is not None and message["type"] == "ok":
                        self.seated.add(seat)
                    self.look(message, by, began)

    def look(self, message: dict[str, Any], by: Pass, began: float) -> None:
        """Look whether the bearer of a token may be sent this."""
        kind = message["type"]
        # What was written before may come late through a network that is held.
        at = began if kind == "welcome" else message.get("at", 0) / 1_000
        if by.barred_at is not None and at > by.barred_at:
            late = at - by.barred_at
            detail = f"a {kind} {late:.1f} s after nobody was to serve {by.name} any more"
            self._violations.append(
                Violation("served", TOPIC, message.get("seq", 0), self.name, detail)
            )
