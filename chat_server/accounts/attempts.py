"""Counts attempts to sign in, for all workers together.

What is counted is kept as a keyed digest: people write passwords into the field for the name. The
table is bounded by time, for rows are deleted once their span is over, and by the passwords that
the workers can hash in that time, for what finds no place for that is not counted.
"""

import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, TextualSelect, bindparam, delete, text

from ..settings import AccountSettings
from .tables import ATTEMPTS

MAX_OVER: Final = 10_000
"""Keys of which a worker remembers that there are too many attempts: 2 MB."""

_ROW = ATTEMPTS.c


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
        self._over: OrderedDict[bytes, int] = OrderedDict()
        """Until when there are too many, as far as this worker has learnt."""

    def begin(self, **what: str) -> "Attempt":
        """Return an attempt.

        Args:
            what: a `name`, an `address`, or both.
        """
        limits = {self._digest(kind, text): self._limits[kind] for kind, text in what.items()}
        return Attempt(limits, self._over, self._span_ms)

    def forget(self, connection: Connection, now: int) -> None:
        """Delete the spans that are over."""
        connection.execute(delete(ATTEMPTS).where(_ROW.ends_at <= now))

    def _digest(self, kind: str, text: str) -> bytes:
        given = f"{kind}:{text}".encode(errors="surrogatepass")
        return hmac.digest(self._key, given, hashlib.sha256)[:16]


class Attempt:
    """An attempt, which `count` admits or not; what `wait` says only saves work.

    Args:
        limits: of each key.
        over: until when there are too many attempts, by key; `learn` adds to it.
        span_ms: how long attempts are counted together.
    """

    def __init__(
        self, limits: Mapping[bytes, int], over: OrderedDict[bytes, int], span_ms: int
    ) -> None:
        self._limits = limits
        self._over = over
        self._span_ms = span_ms

    def wait(self, now: int) -> int:
        """Return for how many milliseconds the attempt is known to be one too many; 0 if it is not.

        Args:
            now: milliseconds since 1970.
        """
        return max(0, *(self._over.get(key, 0) - now for key in self._limits))

    def count(self, connection: Connection, now: int) -> dict[bytes, int]:
        """Count the attempt; return the keys of which it is one too many, and until when.

        Args:
            connection: whose transaction must be committed also if the attempt may not pass.
            now: milliseconds since 1970.
        """
        # Always in one order: two transactions that lock the same rows must not wait in a circle.
        keys = {f"key{number}": key for number, key in enumerate(sorted(self._limits))}
        given = {**keys, "now": now, "ends": now + self._span_ms}
        return {
            bytes(key): ends_at
            for key, count, ends_at in connection.execute(_COUNT[len(keys)], given).all()
            if count > self._limits[bytes(key)]
        }

    def learn(self, over: Mapping[bytes, int], now: int) -> int:
        """Return in how many milliseconds another attempt may pass; 0 if this one may.

        `wait` knows it from now on. It is no part of `count`, which another thread may call.

        Args:
            over: what `count` has returned.
            now: milliseconds since 1970.
        """
        self._over.update(over)
        while len(self._over) > MAX_OVER:
            self._over.popitem(last=False)
        return max((ends_at - now for ends_at in over.values()), default=0)


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
