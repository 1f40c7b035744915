"""Finds out whether what is published is heard: a connection that answers may carry no messages."""

import asyncio
import time
from asyncio import Future
from contextlib import suppress
from typing import Any, NoReturn

from redis.exceptions import RedisError

from ..protocol.errors import Unavailable
from .lane import Lane, pack
from .subscriber import Subscriber


class Deaf(RedisError):
    """Redis takes what is published, but the subscriber connection does not bring it."""


class Canary:
    """A small message that must come back on the subscriber connection, sent every so often.

    Args:
        publisher: where it is sent, as publications are.
        subscriber: where it must be heard.
        every_seconds: how often it is sent.
        timeout_seconds: how long it may take once Redis has shown that the connection works.
    """

    def __init__(
        self,
        publisher: Lane,
        subscriber: Subscriber,
        *,
        every_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._every = every_seconds
        self._timeout = timeout_seconds
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

    async def watch(self) -> NoReturn:
        """Send one every so often, until the connection is lost.

        Raises:
            LINK_ERRORS: why it is lost, or `Deaf`.
        """
        while True:
            await self._subscriber.lost(within=self._every)
            # Whether Redis is away or just behind is for the connections to say.
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
            await self._send(heard)
            if not heard.done():
                self._deaf_since = self._deaf_since or began
                raise Deaf("what is published is not heard")
            heard.result()
        finally:
            heard.cancel()
        self._deaf_seconds, self._deaf_since = self.deaf_seconds, None

    async def _send(self, heard: "Future[None]") -> None:
        sent = self._publisher.send(
            pack(self._subscriber.publish, self._subscriber.canary, b""), bool
        )
        if await _first(heard, sent):
            return
        sent.result()
        # The canary waits behind whatever else this worker has yet to read; the answer to a PING
        # comes behind both.
        if not await _first(heard, self._subscriber.check()):
            await asyncio.wait([heard], timeout=self._timeout)


async def _first(heard: "Future[None]", other: "Future[Any]") -> bool:
    """Wait for either; return whether it was `heard`."""
    await asyncio.wait([heard, other], return_when=asyncio.FIRST_COMPLETED)
    return heard.done()
