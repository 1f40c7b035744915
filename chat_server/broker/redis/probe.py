"""The loopback check: publications must be stored, and must come back to this worker."""

import asyncio
import time
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from redis.exceptions import RedisError

from ...protocol.errors import Unavailable
from .refusals import Refusal, StoreRefuses
from .subscriber import PubSubConnection

REFUSED_SECONDS: Final = 1.0
"""Longest interval between probes in seconds while Redis stores nothing."""


class Deaf(RedisError):
    """The pub/sub loopback failed: Redis stores publications but does not deliver them."""


class PubSubProbe:
    """Publishes probes; each must be stored and come back on the subscriber connection.

    Args:
        publish: stores a probe like any publication.
        signal: sends a probe without storing it.
        subscriber: receives the probes.
        on_result: called after each probe; None, or the reason why Redis did not store the probe.
        every_seconds: interval between probes.
        timeout_seconds: time for a probe to arrive after Redis has answered a PING.
    """

    def __init__(
        self,
        publish: "Callable[[], Future[Any]]",
        signal: "Callable[[], Future[Any]]",
        subscriber: PubSubConnection,
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
        self._refused = asyncio.Event()
        self._deaf_since: float | None = None
        self._deaf_seconds = 0.0

    @property
    def deaf(self) -> bool:
        """Whether the last probe did not arrive."""
        return self._deaf_since is not None

    @property
    def deaf_seconds(self) -> float:
        """Seconds of deafness in total, each time from the probe that did not arrive."""
        since = self._deaf_since
        return self._deaf_seconds + (0.0 if since is None else time.monotonic() - since)

    def expedite(self) -> None:
        """Send the next probe soon, because Redis has refused a publication."""
        self._refused.set()

    async def run(self) -> NoReturn:
        """Send probes until the connection is lost.

        Raises:
            CONNECTION_ERRORS: the connection is lost, or a probe did not arrive (`Deaf`).
        """
        soon = min(self._every, REFUSED_SECONDS)
        while True:
            if not self._refused.is_set():
                await self._subscriber.wait_closed(within=self._every, unless=self._refused)
            if self._refused.is_set():
                await self._subscriber.wait_closed(within=soon)
            # The connections find out whether Redis is unavailable or only slow.
            with suppress(Unavailable):
                await self.check()

    async def check(self) -> None:
        """Send a probe and receive it.

        Raises:
            Deaf: the probe was stored, but did not arrive in time.
            Unavailable: the probe could not be sent, or the connection was lost.
        """
        began = time.monotonic()
        heard = self._subscriber.expect_probe()
        try:
            refusal = silence = await self._send(heard, self._publish)
            if refusal is not None:
                # Publications of other workers may still arrive.
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
            self._refused.clear()
        else:
            self._refused.set()
        await self._on_result(refusal)

    async def _send(
        self, heard: "Future[None]", send: "Callable[[], Future[Any]]"
    ) -> Refusal | None:
        """Send a probe, and wait until it arrives or the time is over."""
        sent = send()
        try:
            await sent
        except StoreRefuses as error:
            return error.refusal
        # The probe arrives after all earlier data, and the answer to a PING arrives after the
        # probe.
        if not await _first(heard, self._subscriber.ping()):
            await asyncio.wait([heard], timeout=self._timeout)
        return None


async def _first(heard: "Future[None]", other: "Future[Any]") -> bool:
    """Wait for either future; return whether `heard` is done."""
    await asyncio.wait([heard, other], return_when=asyncio.FIRST_COMPLETED)
    return heard.done()
