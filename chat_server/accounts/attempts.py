"""Counts attempts to sign in, for all workers together.

What is counted is kept as a keyed digest: people write passwords into the field for the name. The
table is bounded by time, for rows are deleted once their span is over, and by the passwords that
the workers can hash in that time, for what finds no place for that is not counted.
"""

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy import TextualSelect, bindparam, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from ..settings import AccountSettings
from .tables import ATTEMPTS

RETRY_MS: Final = 1_000
"""Wait for an attempt that only those under way leave no room for."""

_ROW = ATTEMPTS.c

_READ = select(_ROW.key, _ROW.count, _ROW.ends_at).where(
    _ROW.key.in_(bindparam("keys", expanding=True))
)


class Attempts:
    """Counts attempts in spans of `accounts.attempts_seconds`.

    Args:
        settings: the limits.
        secret: for the digests.
    """

    def __init__(self, settings: AccountSettings, secret: bytes) -> None:
        self._span_ms = math.ceil(settings.attempts_seconds * 1000)
        self._limits = {
            "name": settings.attempts_per_name,
            "address": settings.attempts_per_address,
        }
        self._key = hmac.digest(secret, b"chat_server: attempts", hashlib.sha256)
        self._underway: Counter[bytes] = Counter()

    @contextmanager
    def begin(self, **what: str) -> Iterator["Attempt"]:
        """Return an attempt, which is under way until the end of the block.

        Args:
            what: a `name`, an `address`, or both.
        """
        limits = {self._digest(kind, text): self._limits[kind] for kind, text in what.items()}
        self._underway.update(limits.keys())
        try:
            yield Attempt(limits, self._underway, self._span_ms)
        finally:
            for key in limits:
                self._underway[key] -= 1
                if not self._underway[key]:
                    del self._underway[key]

    async def forget(self, session: AsyncSession, now: int) -> None:
        """Delete the spans that are over."""
        await session.execute(delete(ATTEMPTS).where(_ROW.ends_at <= now))

    def _digest(self, kind: str, text: str) -> bytes:
        given = f"{kind}:{text}".encode(errors="surrogatepass")
        return hmac.digest(self._key, given, hashlib.sha256)[:16]


class Attempt:
    """An attempt that is under way.

    Args:
        limits: of each key.
        underway: attempts of this worker with each key, this one among them.
        span_ms: how long attempts are counted together.
    """

    def __init__(self, limits: Mapping[bytes, int], underway: Counter[bytes], span_ms: int) -> None:
        self._limits = limits
        self._underway = underway
        self._span_ms = span_ms

    async def wait(self, session: AsyncSession, now: int) -> int:
        """Return in how many milliseconds the attempt may be made; 0 for now.

        Attempts of other workers that are under way are not known: of these each may let so many
        through, once.

        Args:
            session: a session that may be read only.
            now: milliseconds since 1970.
        """
        rows = (await session.execute(_READ, {"keys": list(self._limits)})).all()
        over = {bytes(key): (n, ends_at) for key, n, ends_at in rows if ends_at > now}
        waits = [0]
        for key, limit in self._limits.items():
            counted, ends_at = over.get(key, (0, now + RETRY_MS))
            if counted + self._underway[key] > limit:
                waits.append(ends_at - now)
        return max(waits)

    async def count(self, session: AsyncSession, now: int) -> int:
        """Count the attempt, and return in how many milliseconds it may be repeated; 0 if it may.

        Args:
            session: whose transaction must be committed also if the attempt may not be made.
            now: milliseconds since 1970.
        """
        # Always in one order: two transactions that lock the same rows must not wait in a circle.
        keys = {f"key{number}": key for number, key in enumerate(sorted(self._limits))}
        given = {**keys, "now": now, "ends": now + self._span_ms}
        rows = (await session.execute(_COUNT[len(keys)], given)).all()
        waits: list[int] = [
            ends_at - now for key, n, ends_at in rows if n > self._limits[bytes(key)]
        ]
        return max([0, *waits])


def _counting(keys: int) -> TextualSelect:
    """Return the statement that counts so many keys at once.

    It is text, because SQLAlchemy compiles an INSERT of several rows anew each time it is run.
    """
    rows = ", ".join(f"(:key{number}, 1, :ends)" for number in range(keys))
    statement = text(
        f"INSERT INTO chat_attempts (key, count, ends_at) VALUES {rows}"  # noqa: S608  (no values)
        " ON CONFLICT (key) DO UPDATE SET"
        " count = CASE WHEN chat_attempts.ends_at <= :now THEN 1 ELSE chat_attempts.count + 1 END,"
        " ends_at = CASE WHEN chat_attempts.ends_at <= :now THEN :ends"
        " ELSE chat_attempts.ends_at END"
        " RETURNING key, count, ends_at"
    )
    return statement.bindparams(
        bindparam("now", type_=_ROW.ends_at.type),
        bindparam("ends", type_=_ROW.ends_at.type),
        *(bindparam(f"key{number}", type_=_ROW.key.type) for number in range(keys)),
    ).columns(_ROW.key, _ROW.count, _ROW.ends_at)


_COUNT: Final = {keys: _counting(keys) for keys in (1, 2)}
