"""Caches the key set at a URL, and decides when to fetch the set again."""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from ..clock import Clock
from .fetching import Fetcher, FetchError

FETCH_SECONDS = 5.0
"""Seconds that a fetch may take: less than a client has to authenticate."""

MAX_BYTES = 262_144
MAX_AGE_SECONDS = 600.0
"""Seconds after which the set is fetched unasked: an issuer revokes a key by removing the key."""

BURST = 5
"""Number of fetches that may follow one another without a wait."""

PAUSE_SECONDS = 5.0
"""Maximum seconds without any fetch after a failed fetch."""

RETURN_SECONDS = 1.0
"""Seconds after which a repeated request for a key may use the reserve."""

MAX_ASKED = 10_000
"""Maximum number of requested keys remembered since the last fetch, at some 100 bytes each."""

Keys = TypeVar("Keys")

_log = logging.getLogger(__name__)


class KeySet(Generic[Keys]):
    """The keys at `url`, as of the last successful fetch.

    A token whose key is not in the set causes a fetch: the key may be new. Forged tokens do so too,
    so these fetches have an allowance. A second allowance, the reserve, is for keys requested again
    after a second, as honest clients do after `retry_in_ms`. Neither a flood of made-up keys
    nor a key that a fetch has shown to be unknown uses the reserve.

    Args:
        url: http or https; redirects are not followed.
        parse: called in a thread; raises ValueError for bytes that are not a key set.
        refresh_seconds: seconds until a used-up allowance has one more fetch.
        clock: tells the time.
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
        """True if the last fetch succeeded."""
        self._fetcher = Fetcher(url, parse, max_bytes=MAX_BYTES)
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        now = clock.monotonic()
        self._allowance = _Allowance(refresh_seconds, now)
        self._reserve = _Allowance(refresh_seconds, now)
        self._paused_until = now
        # Keys by hash, because an id may have kilobytes and a collision does no harm.
        self._asked: dict[int, float] = {}
        self._unknown: frozenset[int] = frozenset()
        self._flight: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Start to keep the keys fresh; return at once, even if the URL does not answer."""
        self._stopped = False
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="jwks-keeper")

    async def stop(self) -> None:
        """End all tasks; abort a fetch without waiting for its thread."""
        self._stopped = True
        tasks = [task for task in (self._keeper, self._flight) if task is not None]
        # A task that is cancelled before its first step cannot reset the attribute itself.
        self._keeper = self._flight = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self, kid: str | None) -> float:
        """Record a request for the key `kid`; return the seconds until `refresh` may fetch.

        While a fetch is under way, the result is 0.
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
        """Fetch the keys if an allowance permits a fetch for `kid` now; log a failure.

        All callers share one fetch, and no caller can cancel the fetch.

        Returns:
            True if the keys come from a fetch that began after the call. Then a `kid` outside the
            set is unknown; after an earlier fetch the key may still be newer.
        """
        if self._stopped or self.ask(kid) > 0:
            return False
        began = self._flight is None
        if began:
            now = self._clock.monotonic()
            if not self._allowance.acquire(now):
                self._reserve.acquire(now)
        await self._fetched()
        return began and self.reachable

    async def _fetched(self) -> None:
        """Start a fetch, or join the fetch under way, and wait for its end."""
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
    """A token bucket of `BURST` fetches, refilled by one every `seconds`."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._full_at = now

    def wait(self, now: float) -> float:
        """Return the seconds until a fetch is allowed."""
        return max(0.0, self._full_at - (BURST - 1) * self._seconds - now)

    def acquire(self, now: float) -> bool:
        """Use up one fetch if one is allowed; return False if none is."""
        if self.wait(now) > 0:
            return False
        self._full_at = max(self._full_at, now) + self._seconds
        return True
