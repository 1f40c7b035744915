"""A JSON Web Key Set at a URL (RFC 7517): fetched in a thread, cached, refreshed when due.

It knows when and how to fetch; what the bytes mean is left to the `parse` it is given.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Generic, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from ..clock import Clock

FETCH_SECONDS = 5.0
"""How long a fetch may take: less than a client is given to authenticate."""

MAX_BYTES = 262_144
MAX_AGE_SECONDS = 600.0
"""After so long the set is fetched unasked: an issuer revokes a key by removing it."""

Keys = TypeVar("Keys")

_log = logging.getLogger(__name__)


class FetchError(Exception):
    """The key set cannot be had; the text says why."""


class KeySet(Generic[Keys]):
    """The keys at `url`, as `parse` read them last.

    Args:
        url: http or https; redirects are not followed.
        parse: called in a thread; raises ValueError for bytes that are no key set.
        min_refresh_seconds: what lies at least between two fetches, failed or not.
    """

    def __init__(
        self,
        url: str,
        parse: Callable[[bytes], Keys],
        *,
        min_refresh_seconds: float,
        clock: Clock,
    ) -> None:
        self.keys: Keys | None = None
        self.reachable = False
        """Whether the last fetch succeeded."""
        self._url = url
        self._parse = parse
        self._min_refresh_seconds = min_refresh_seconds
        self._clock = clock
        self._next_fetch_at: float | None = None
        self._flight: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def seconds_to_refresh(self) -> float:
        """How long until `refresh` can bring anything new; 0 while a fetch is under way."""
        if self._flight is not None or self._next_fetch_at is None:
            return 0.0
        return max(0.0, self._next_fetch_at - self._clock.monotonic())

    async def start(self) -> None:
        """Begin to keep the keys fresh; returns at once, whether or not the URL answers."""
        self._stopped = False
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="jwks-keeper")

    async def stop(self) -> None:
        """End every task; a fetch in its thread ends by its own timeout, its result unused."""
        self._stopped = True
        tasks = [task for task in (self._keeper, self._flight) if task is not None]
        # A task that is cancelled before its first step cannot do this itself.
        self._keeper = self._flight = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Fetch the keys if that is due, or wait for the fetch under way; failing is logged only.

        However many callers wait, there is one fetch, and none of them can cancel it.
        """
        if self._stopped or self.seconds_to_refresh > 0:
            return
        if self._flight is None:
            self._next_fetch_at = self._clock.monotonic() + self._min_refresh_seconds
            self._flight = asyncio.create_task(self._fetch(), name="jwks-fetch")
        await asyncio.wait([self._flight])

    async def _fetch(self) -> None:
        self.reachable = False
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self.keys = await asyncio.to_thread(self._load)
            self.reachable = True
        except (FetchError, TimeoutError) as error:
            _log.warning("cannot fetch the key set: %s", str(error) or "no answer in time")
        finally:
            self._flight = None

    def _load(self) -> Keys:
        body = fetch(self._url, seconds=FETCH_SECONDS, max_bytes=MAX_BYTES)
        try:
            return self._parse(body)
        except ValueError as error:
            raise FetchError(f"not a key set: {error}") from None

    async def _keep(self) -> None:
        while True:
            await self.refresh()
            age = MAX_AGE_SECONDS if self.reachable else 0.0
            await asyncio.sleep(max(age, self._min_refresh_seconds))


def fetch(url: str, *, seconds: float, max_bytes: int) -> bytes:
    """Return the body at an http or https URL; blocks, so call it in a thread.

    Args:
        seconds: how long any wait for the network may take, and the reading of the body as a whole.
        max_bytes: a longer body is an error.

    Raises:
        FetchError: there is none, or it is too long or too slow.
    """
    opener = OpenerDirector()
    # Not `build_opener`: it would add handlers for files, FTP, data URLs and redirects.
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    deadline = time.monotonic() + seconds
    body = bytearray()
    try:
        request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  (the opener has no handler for other schemes)
        with opener.open(request, timeout=seconds) as response:
            while chunk := response.read1(max_bytes):
                body += chunk
                if len(body) > max_bytes:
                    raise FetchError(f"the answer is longer than {max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise FetchError("no answer in time")
    except HTTPError as error:
        error.close()
        raise FetchError(f"the answer is HTTP {error.code}") from None
    except URLError as error:
        raise FetchError(str(error.reason)) from None
    except (OSError, HTTPException, ValueError) as error:
        raise FetchError(str(error) or type(error).__name__) from None
    return bytes(body)
