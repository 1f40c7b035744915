"""Finds out whether publications are stored and heard: a connection that answers may do neither."""

import asyncio
import time
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from redis.exceptions import RedisError

from ...protocol.errors import Unavailable
from .refusals import Closed, Refusal
from .subscriber import Subscriber

REFUSED_SECONDS: Final = 1.0
"""How often at least one is sent while Redis takes no publications."""


class Deaf(RedisError):
    """Redis takes what is published, but the subscriber connection does not bring it."""


class PubSubProbe:
    """A publication that must be stored and come back on the subscriber connection.

    Args:
        publish: stores and sends one as any publication is, and whatever else must work.
        signal: sends one without storing it.
        subscriber: where it must be heard.
        on_result: told after each whether and why Redis has not stored it.
        every_seconds: how often one is sent.
        timeout_seconds: how long it may take once Redis has shown that the connection works.
    """

    def __init__(
        self,
        publish: "Callable[[], Future[Any]]",
        signal: "Callable[[], Future[Any]]",
        subscriber: Subscriber,
        on_result: Callable[[Refusal | None], Awaitable[None]],
        *,
        every_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._publish = publish
        self._signal = signal
        self._subscriber = subscriber
        self._on_result = on_result
        self._every = every_seconds
        self._timeout = timeout_seconds
        self._doubted = asyncio.Event()
        self._deaf_since: float | None = None
        self._deaf_seconds = 0.0

    @property
    def deaf(self) -> bool:
        """Whether the last one was not heard."""
        return self._deaf_since is not None

    @property
    def deaf_seconds(self) -> float:
        """How long nothing was heard, in all, each time from the canary that showed it."""
        since = self._deaf_since
        return self._deaf_seconds + (0.0 if since is None else time.monotonic() - since)

    def hurry(self) -> None:
        """Send the next one soon: Redis has refused something."""
        self._doubted.set()

    async def watch(self) -> NoReturn:
        """Send one every so often, until the connection is lost.

        Raises:
            CONNECTION_ERRORS: why it is lost, or `Deaf`.
        """
        soon = min(self._every, REFUSED_SECONDS)
        while True:
            if not self._doubted.is_set():
                await self._subscriber.lost(within=self._every, unless=self._doubted)
            if self._doubted.is_set():
                await self._subscriber.lost(within=soon)
            # Whether Redis is unavailable or just behind is for the connections to say.
            with suppress(Unavailable):
                await self.sing()

    async def sing(self) -> None:
        """Send one and hear it.

        Raises:
            Deaf: it was taken, but not heard in time.
            Unavailable: it could not be sent, or the connection was lost.
        """
        began = time.monotonic()
        heard = self._subscriber.hear()
        try:
            refusal = silence = await self._send(heard, self._publish)
            if refusal is not None:
                # What others publish, or have published, may still be heard.
                silence = await self._send(heard, self._signal)
            if silence is None and not heard.done():
                self._deaf_since = self._deaf_since or began
                raise Deaf("what is published is not heard")
            if heard.done():
                heard.result()
        finally:
            heard.cancel()
        self._deaf_seconds, self._deaf_since = self.deaf_seconds, None
        if refusal is None:
            self._doubted.clear()
        else:
            self._doubted.set()
        await self._on_result(refusal)

    async def _send(
        self, heard: "Future[None]", send: "Callable[[], Future[Any]]"
    ) -> Refusal | None:
        """Send one, and wait until it is heard or has had its time."""
        sent = send()
        try:
            await sent
        except Closed as error:
            return error.refusal
        # The canary waits behind whatever else this worker has yet to read; the answer to a PING
        # comes behind both.
        if not await _first(heard, self._subscriber.check()):
            await asyncio.wait([heard], timeout=self._timeout)
        return None


async def _first(heard: "Future[None]", other: "Future[Any]") -> bool:
    """Wait for either; return whether it was `heard`."""
    await asyncio.wait([heard, other], return_when=asyncio.FIRST_COMPLETED)
    return heard.done()
