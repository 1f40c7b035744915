"""Blocked users and users with revoked tokens, under faults: the server must not serve them."""

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
"""The way of exclusion of each user: blocked, or the property by which the token is revoked."""

CONNECTIONS = 3
"""Connections of each user, on random workers."""

TOPIC = "short:0"
"""A topic of other users, without presence."""

CONFIRMED_SECONDS = 1.0
"""Seconds after a confirmation in which a worker may still serve the user."""

LASTS_SECONDS = 3_600
PAUSE_SECONDS = 0.2


class Pass(Struct, eq=False):
    """A token.

    Args:
        name: its `jti` and its `kid`, unique among tokens.
        barred_at: seconds since 1970 from which on the token is not served; None for a valid token.
    """

    name: str
    token: str
    barred_at: float | None = None


def sign(name: str, token: str) -> Pass:
    """Return a copy of a token with `name` as `jti` and `kid`, for revocation by name."""
    claims = jwt.decode(token, options={"verify_signature": False})
    secret = load_settings().auth.secret
    return Pass(name, jwt.encode({**claims, "jti": name}, secret, headers={"kid": name}))


class Outcasts:
    """The users, and the operators that exclude them.

    Args:
        orders: sends the orders.
        mint: makes a token for a user.
        url: the clients' address.
        moods: random times.
        violations: receives services to excluded users.
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
        """Yield the coroutines to run: users connect, are excluded, and reconnect."""
        for user in self._users:
            yield from (user.sit() for _ in range(CONNECTIONS))
            yield user.haunt()
            yield self._keep_out(user)

    async def settle(self, patience: float) -> list[Violation]:
        """Wait until all permitted users are connected; return users missing after `patience`
        seconds.
        """
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
        """Exclude and readmit a user repeatedly, except while `expected` is set."""
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
    """A user that tries to connect with several connections.

    Args:
        name: the name of the user.
        way: one of `WAYS`.
        mint: makes a token for a user.
        url: the address.
        violations: receives services to the user while excluded.

    Attributes:
        passes: the user's tokens; at most the last one is valid.
        seated: the subscribed connections.
        expected: set while the user must be admitted and must not be excluded.
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
        """The target of an order."""
        if self.way in ("jti", "kid"):
            return {self.way: self.passes[-1].name}
        return {"user": self.name}

    def renew(self) -> None:
        """Take a new token."""
        self.passes.append(sign(f"{self.name}-{len(self.passes)}", self._mint(self.name)))

    async def sit(self) -> None:
        """Connect, subscribe and listen repeatedly."""
        while True:
            seat = object()
            await self._come(self.passes[-1], seat)
            self.seated.discard(seat)
            await asyncio.sleep(PAUSE_SECONDS)

    async def haunt(self) -> None:
        """Repeatedly try to connect with a token revoked earlier."""
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
        """Check whether the bearer of a token may receive this message."""
        kind = message["type"]
        # What was written before may come late through a network that is held.
        at = began if kind == "welcome" else message.get("at", 0) / 1_000
        if by.barred_at is not None and at > by.barred_at:
            late = at - by.barred_at
            detail = f"a {kind} {late:.1f} s after nobody was to serve {by.name} any more"
            self._violations.append(
                Violation("served", TOPIC, message.get("seq", 0), self.name, detail)
            )
