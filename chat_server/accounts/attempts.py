"""Counts attempts to sign in, for all workers together.

The key is a keyed digest of the name or address, because users type passwords into the field for
the name. Two rules bound the table. Rows are deleted after their span. An attempt without a place
for hashing (`Passwords.turn`) is not counted.
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
"""Keys over their limit that a worker remembers: 2 MB."""

_ROW = ATTEMPTS.c


class Attempts:
    """Counts attempts in spans of `accounts.attempts_seconds`.

    Args:
        settings: the limits.
        secret: the key of the digests.
    """

    def __init__(self, settings: AccountSettings, secret: bytes) -> None:
        self._span_ms = math.ceil(settings.attempts_seconds * 1000)
        self._limits = {
            "name": settings.attempts_per_name,
            "address": settings.attempts_per_address,
        }
        self._key = hmac.digest(secret, b"chat_server: attempts", hashlib.sha256)
        self._over: OrderedDict[bytes, int] = OrderedDict()
        """End of the span in ms since 1970, by key over its limit, as known to this worker."""

    def begin(self, **what: str) -> "Attempt":
        """Return an attempt.

        Args:
            what: the things to count: a `name`, an `address`, or both.
        """
        limits = {self._digest(kind, text): self._limits[kind] for kind, text in what.items()}
        return Attempt(limits, self._over, self._span_ms)

    def forget(self, connection: Connection, now: int) -> None:
        """Delete the expired spans."""
        connection.execute(delete(ATTEMPTS).where(_ROW.ends_at <= now))

    def _digest(self, kind: str, text: str) -> bytes:
        given = f"{kind}:{text}".encode(errors="surrogatepass")
        return hmac.digest(self._key, given, hashlib.sha256)[:16]


class Attempt:
    """An attempt. `count` decides about the attempt; `wait` only avoids work.

    Args:
        limits: the limit of each key.
        over: the end of the span by key over its limit; `learn` adds to this mapping.
        span_ms: milliseconds in which attempts are counted together.
    """

    def __init__(
        self, limits: Mapping[bytes, int], over: OrderedDict[bytes, int], span_ms: int
    ) -> None:
        self._limits = limits
        self._over = over
        self._span_ms = span_ms

    def wait(self, now: int) -> int:
        """Return the milliseconds for which a known limit is exceeded; 0 if none is known.

        Args:
            now: milliseconds since 1970.
        """
        return max(0, *(self._over.get(key, 0) - now for key in self._limits))

    def count(self, connection: Connection, now: int) -> dict[bytes, int]:
        """Count the attempt; return the keys over their limit, with the ends of their spans.

        Args:
            connection: the caller must commit its transaction even if the attempt is refused.
            now: milliseconds since 1970.
        """
        # Always in one order, because two transactions on the same rows could deadlock otherwise.
        keys = {f"key{number}": key for number, key in enumerate(sorted(self._limits))}
        given = {**keys, "now": now, "ends": now + self._span_ms}
        return {
            bytes(key): ends_at
            for key, count, ends_at in connection.execute(_COUNT[len(keys)], given).all()
            if count > self._limits[bytes(key)]
        }

    def learn(self, over: Mapping[bytes, int], now: int) -> int:
        """Return the milliseconds until another attempt may pass; 0 if this attempt may pass.

        From now on `wait` knows the excess. `learn` is separate from `count`, because `count` may
        run in another thread.

        Args:
            over: the result of `count`.
            now: milliseconds since 1970.
        """
        self._over.update(over)
        while len(self._over) > MAX_OVER:
            self._over.popitem(last=False)
        return max((ends_at - now for ends_at in over.values()), default=0)


def _counting(keys: int) -> TextualSelect:
    """Return the statement that counts a number of keys at once.

    The statement is text, because SQLAlchemy compiles an INSERT of several rows at each run.
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
