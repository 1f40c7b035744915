"""A set of keys at a URL: cached, and fetched again when it is old or lacks a key.

It knows when to fetch; what the bytes mean is left to the `parse` it is given.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from ..clock import Clock
from .fetching import Fetcher, FetchError

FETCH_SECONDS = 5.0
"""How long a fetch may take: less than a client is given to authenticate."""

MAX_BYTES = 262_144
MAX_AGE_SECONDS = 600.0
"""After so long the set is fetched unasked: an issuer revokes a key by removing it."""

BURST = 5
"""Fetches that may follow each other at once."""

PAUSE_SECONDS = 5.0
"""After a fetch that failed, at most so long nothing is fetched."""

RETURN_SECONDS = 1.0
"""After so long a key that is asked for again may be fetched from the reserve."""

MAX_ASKED = 10_000
"""Keys remembered that were asked for since the last fetch, at some 100 bytes each."""

Keys = TypeVar("Keys")

_log = logging.getLogger(__name__)


class KeySet(Generic[Keys]):
    """The keys at `url`, as `parse` read them last.

    A token with a key that is not there causes a fetch: the key may be new. Anybody can make up
    such tokens, so these fetches have an allowance. A second one, the reserve, is for keys that are
    asked for again after a second, as clients of the issuer do who were told to try again. A flood
    of made-up keys does not touch it, nor does a key that a fetch has shown to be unknown.

    Args:
        url: http or https; redirects are not followed.
        parse: called in a thread; raises ValueError for bytes that are no key set.
        refresh_seconds: how long it takes until an allowance that is used up has one more fetch.
    """

    def __init__(
        self,
        url: str,
        parse: Callable[[bytes], Keys],
        *,
        refresh_seconds: float,
        clock: Clock,
    ) -> None:
        self.keys: Keys | None = None
        self.reachable = False
        """Whether the last fetch succeeded."""
        self._fetcher = Fetcher(url, parse, max_bytes=MAX_BYTES)
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        now = clock.monotonic()
        self._allowance = _Allowance(refresh_seconds, now)
        self._reserve = _Allowance(refresh_seconds, now)
        self._paused_until = now
        # By hash: a name may have kilobytes, and one that is mistaken for another does no harm.
        self._asked: dict[int, float] = {}
        self._unknown: frozenset[int] = frozenset()
        self._flight: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Begin to keep the keys fresh; returns at once, whether or not the URL answers."""
        self._stopped = False
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="jwks-keeper")

    async def stop(self) -> None:
        """End every task; a fetch is cut short, and its thread not waited for."""
        self._stopped = True
        tasks = [task for task in (self._keeper, self._flight) if task is not None]
        # A task that is cancelled before its first step cannot do this itself.
        self._keeper = self._flight = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self, kid: str | None) -> float:
        """Note that the key `kid` is wanted; return the seconds until `refresh` may fetch it.

        They are 0 also while a fetch is under way.
        """
        if self._flight is not None:
            return 0.0
        now = self._clock.monotonic()
        wait = self._allowance.wait(now)
        key = hash(kid)
        if key not in self._unknown and (key in self._asked or len(self._asked) < MAX_ASKED):
            returns_at = self._asked.setdefault(key, now) + RETURN_SECONDS
            wait = min(wait, max(returns_at - now, self._reserve.wait(now)))
        return max(wait, self._paused_until - now, 0.0)

    async def refresh(self, kid: str | None) -> bool:
        """Fetch the keys if the wish for `kid` allows that now; failing is logged only.

        However many callers wait, there is one fetch, and none of them can cancel it.

        Returns:
            Whether the keys are those of a fetch that began after the call: if `kid` is not among
            them it is unknown. After one that was under way it may be newer.
        """
        if self._stopped or self.ask(kid) > 0:
            return False
        began = self._flight is None
        if began:
            now = self._clock.monotonic()
            if not self._allowance.take(now):
                self._reserve.take(now)
        await self._fetched()
        return began and self.reachable

    async def _fetched(self) -> None:
        """Fetch, or wait for the fetch under way."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetch(), name="jwks-fetch")
        await asyncio.wait([self._flight])

    async def _fetch(self) -> None:
        self.reachable = False
        asked, self._asked = self._asked, {}
        try:
            self.keys = await self._fetcher.fetch(seconds=FETCH_SECONDS)
            self.reachable = True
            self._unknown = frozenset(asked)
        except FetchError as error:
            _log.warning("cannot fetch the key set of auth.jwks_url: %s", error)
        except Exception:
            _log.exception("cannot fetch the key set of auth.jwks_url")
        finally:
            self._flight = None
        if not self.reachable:
            self._asked = asked
            pause = min(self._refresh_seconds, PAUSE_SECONDS)
            self._paused_until = self._clock.monotonic() + pause

    async def _keep(self) -> None:
        while True:
            await self._fetched()
            await asyncio.sleep(MAX_AGE_SECONDS if self.reachable else self._refresh_seconds)


class _Allowance:
    """Permissions of which `BURST` are kept, and one comes back every so many seconds."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._full_at = now

    def wait(self, now: float) -> float:
        """Return the seconds until there is a permission."""
        return max(0.0, self._full_at - (BURST - 1) * self._seconds - now)

    def take(self, now: float) -> bool:
        """Take one if there is one."""
        if self.wait(now) > 0:
            return False
        self._full_at = max(self._full_at, now) + self._seconds
        return True
