"""Caches the claims of verified tokens, so that no token is verified twice."""

import math
from collections import OrderedDict
from hashlib import sha256
from typing import Final

from .claims import Claims

MAX_TOKEN_BYTES: Final = 8192
MAX_TOKENS: Final = 10_000

MAX_BYTES: Final = 4 * 1024 * 1024
"""Maximum sum of the lengths of the cached tokens, as an estimate of the size of their claims."""

_Entry = tuple[float, float, int, Claims]
"""Begin and end of the token's life in seconds since 1970, its length in bytes, its claims."""


class VerifiedTokens:
    """The claims of the most recently used verified tokens, by the SHA-256 of the token.

    The tokens themselves are not kept. `find` returns only claims that a new verification would
    return: `find` checks the time, and the cache is emptied when the keys change. A refused token
    is never cached.

    A cached token takes three times the length of a usual token: 12 MiB at the limit of bytes.
    Claims with only the shortest patterns take nine times the length: 36 MiB at worst.

    Args:
        leeway: seconds by which the clocks of issuer and server may differ.
        max_tokens: maximum number of tokens; the least recently used goes first.
        max_bytes: maximum sum of the tokens' lengths.
    """

    def __init__(
        self, leeway: float, *, max_tokens: int = MAX_TOKENS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._leeway = leeway
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0
        self._keys: object = None

    def find(self, token: str, keys: object, now: float) -> Claims | None:
        """Return the claims of a token that was verified with the same keys, if still valid.

        Args:
            token: the token as the client sent it.
            keys: the present keys; another object means that the keys may have changed.
            now: seconds since 1970.
        """
        if keys is not self._keys:
            self._begin(keys)
        # Half a surrogate pair cannot be encoded, and a long text takes long to hash.
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            return None
        digest = sha256(token.encode()).digest()
        entry = self._entries.get(digest)
        if entry is None:
            return None
        begin, end, _, claims = entry
        if now >= end:
            self._bytes -= self._entries.pop(digest)[2]
            return None
        # The clock may have been set back.
        if now < begin:
            return None
        self._entries.move_to_end(digest)
        return claims

    def keep(self, token: str, keys: object, claims: Claims) -> None:
        """Cache a token that was just verified.

        Args:
            token: at most `MAX_TOKEN_BYTES` of ASCII.
            keys: the keys of the verification.
            claims: the token's claims.
        """
        if keys is not self._keys:
            self._begin(keys)
        leeway, size = self._leeway, len(token)
        begin = -math.inf if claims.valid_from is None else claims.valid_from - leeway
        end = math.inf if claims.expires_at is None else claims.expires_at + leeway
        digest = sha256(token.encode()).digest()
        old = self._entries.pop(digest, None)
        self._entries[digest] = (begin, end, size, claims)
        self._bytes += size if old is None else 0
        while len(self._entries) > self._max_tokens or self._bytes > self._max_bytes:
            _, (_, _, freed, _) = self._entries.popitem(last=False)
            self._bytes -= freed

    def _begin(self, keys: object) -> None:
        self._keys = keys
        self._entries.clear()
        self._bytes = 0
