"""Hashes passwords with Argon2id, in threads of their own."""

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
"""Requests that wait for a thread: at 40 ms the last of them waits 1.3 s."""

RETRY_MS: Final = 2_000


class Passwords:
    """Hashes and verifies passwords, a bounded number at a time and never in the event loop.

    Argon2 lets go of the interpreter's lock while it works, so threads are enough. Every hash needs
    a `turn`.

    Args:
        settings: how much memory and how many passes a hash takes, and how many threads there are.
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
        """Keep a place for a request that needs hashes, from before its first work to its end.

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
        """Return the hash of a password, with its parameters and its salt in it."""
        return await self._run(lambda: self._hasher.hash(_prepared(password)))

    async def verify(self, digest: str | None, password: str) -> bool:
        """Return whether a password belongs to a hash.

        Args:
            digest: the hash; None, for a user who does not exist, takes as long and is never right.
            password: as the user wrote it.
        """
        known = self._nobodys if digest is None else digest
        right = await self._run(lambda: self._matches(known, _prepared(password)))
        return right and digest is not None

    def is_outdated(self, digest: str) -> bool:
        """Return whether a hash was made with other parameters than those of the settings."""
        return self._hasher.check_needs_rehash(digest)

    def close(self) -> None:
        """End the threads once each has finished its hash."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, digest: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(digest, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        # If the caller is cancelled so is the work, unless it has begun.
        return await asyncio.wrap_future(self._pool.submit(work))


def check_password(password: str, name: str) -> None:
    """Check that a new password can be used.

    Raises:
        ValueError: the password breaks a rule, which the message says.
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
