"""Hashes passwords with Argon2id, in separate threads."""

import asyncio
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..protocol.errors import Unavailable
from ..settings import AccountSettings

T = TypeVar("T")

MIN_PASSWORD: Final = 8
MAX_PASSWORD: Final = 256

MAX_WAITING: Final = 32
"""Requests that wait for a thread. At 40 ms per hash the last of them waits 1.3 s."""

RETRY_MS: Final = 2_000


class Passwords:
    """Hashes and verifies passwords, a bounded number at a time and never in the event loop.

    Argon2 releases the GIL during its work, so threads are enough. Every hash needs a `turn`.

    Args:
        settings: the memory and passes of a hash, and the number of threads.
    """

    def __init__(self, settings: AccountSettings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.hash_passes, memory_cost=settings.hash_memory_kib, parallelism=1
        )
        self._threads = settings.hash_threads
        self._pool = ThreadPoolExecutor(self._threads, "chat-password")
        self._taken = 0
        self._nobodys = self._hasher.hash("nobody's password")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Reserve a place for a request that needs hashes, from its first work to its end.

        Raises:
            Unavailable: all places are taken.
        """
        if self._taken >= self._threads + MAX_WAITING:
            raise Unavailable("too many people sign in at once", retry_in_ms=RETRY_MS)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def hash(self, password: str) -> str:
        """Return the hash of a password; the hash includes its parameters and its salt."""
        return await self._run(lambda: self._hasher.hash(_prepared(password)))

    async def verify(self, digest: str | None, password: str) -> bool:
        """Return True if a password matches a hash.

        Args:
            digest: the hash; None, for an unknown user, takes as long and never matches.
            password: the password as typed.
        """
        known = self._nobodys if digest is None else digest
        right = await self._run(lambda: self._matches(known, _prepared(password)))
        return right and digest is not None

    def is_outdated(self, digest: str) -> bool:
        """Return True if the parameters of a hash differ from the settings."""
        return self._hasher.check_needs_rehash(digest)

    def close(self) -> None:
        """End the threads after their present hashes."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, digest: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(digest, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        # Cancelling the caller also cancels the work, unless the work has begun.
        return await asyncio.wrap_future(self._pool.submit(work))


def check_password(password: str, name: str) -> None:
    """Check that a new password can be used.

    Raises:
        ValueError: the password breaks a rule; the message names the rule.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise ValueError(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if not password.isprintable():
        raise ValueError("must have no control characters")
    if len(set(password)) == 1 or password.casefold() == name.casefold():
        raise ValueError("must be harder to guess")


def _prepared(password: str) -> bytes:
    """Return the bytes to hash: keyboards differ in how they compose letters (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
