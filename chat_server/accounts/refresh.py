"""Refresh tokens: continue a sign-in, and detect a stolen token.

A sign-in has one row, and generations number its tokens. A token is the sign-in, its generation and
a signature over both. The database stores no token, so a stolen database reveals none.

    current             -> rotated: the next generation is current
    the one before, soon after it was replaced
                        -> repeated: the same current token again
    any other           -> stolen: the sign-in ends for whoever holds one of its tokens

A token is used twice without any thief if its answer was lost, or if two tabs renew at once. Both
cases happen within seconds, and the second use gets the same token. A later second use means that
two parties hold the token. The server cannot tell thief from owner, so both have to sign in again
(RFC 9700, section 4.14.2).
"""

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import Enum, auto
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

ID_BYTES: Final = 16
MAX_GENERATION: Final = 2**31 - 1

_GENERATION_BYTES: Final = 4
_MAC_BYTES: Final = 16
_TOKEN_CHARACTERS: Final = (ID_BYTES + _GENERATION_BYTES + _MAC_BYTES) * 4 // 3


class RefreshToken(Struct, frozen=True):
    """The content of a refresh token.

    Args:
        sign_in: the id of the sign-in, `ID_BYTES` long.
        generation: the number of earlier rotations.
    """

    sign_in: bytes
    generation: int


class RefreshTokens:
    """Writes and reads refresh tokens.

    Args:
        secret: the secret of the signatures; tokens of another secret are rejected.
    """

    def __init__(self, secret: bytes) -> None:
        # A separate key: the key of the JWTs must sign nothing else.
        self._key = hmac.digest(secret, b"chat_server: refresh tokens", hashlib.sha256)

    def write(self, token: RefreshToken) -> str:
        """Return the text of a token."""
        body = token.sign_in + token.generation.to_bytes(_GENERATION_BYTES)
        return urlsafe_b64encode(body + self._mac(body)).decode()

    def read(self, text: str) -> RefreshToken | None:
        """Return the content of a token; None for a token without a valid signature."""
        if len(text) != _TOKEN_CHARACTERS or not text.isascii():
            return None
        try:
            content = urlsafe_b64decode(text)
        except binascii.Error:
            return None
        body, mac = content[:-_MAC_BYTES], content[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        return RefreshToken(body[:ID_BYTES], int.from_bytes(body[ID_BYTES:]))

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_MAC_BYTES]


class SignIn(Struct, frozen=True):
    """The state of a sign-in; times are milliseconds since 1970.

    Args:
        user: the signed-in user.
        generation: the generation of the current token.
        rotated_at: start of the current generation.
        expires_at: expiry of the current token.
        ends_at: end of the sign-in, whatever its use.
        ended: the reason of an early end, or None.
    """

    user: str
    generation: int
    rotated_at: int
    expires_at: int
    ends_at: int
    ended: str | None = None


class Verdict(Enum):
    """The reaction to a refresh token."""

    ROTATE = auto()
    REPEAT = auto()
    STOLEN = auto()
    OVER = auto()


def judge(sign_in: SignIn, generation: int, now: int, grace: int) -> Verdict:
    """Return the reaction to a token of a sign-in.

    Args:
        sign_in: the present state.
        generation: the generation of the token.
        now: milliseconds since 1970.
        grace: milliseconds for which the previous token is answered with the current token.
    """
    if sign_in.ended is not None or now >= sign_in.expires_at:
        return Verdict.OVER
    if generation == sign_in.generation:
        return Verdict.OVER if generation >= MAX_GENERATION else Verdict.ROTATE
    if generation == sign_in.generation - 1 and now < sign_in.rotated_at + grace:
        return Verdict.REPEAT
    return Verdict.STOLEN


def begun(user: str, now: int, idle: int, longest: int) -> SignIn:
    """Return the state of a new sign-in.

    Args:
        user: the signed-in user.
        now: milliseconds since 1970.
        idle: milliseconds after which an unused token expires.
        longest: milliseconds after which the user must sign in again in any case.
    """
    return SignIn(user, 0, now, now + min(idle, longest), now + longest)


def rotated(sign_in: SignIn, now: int, idle: int) -> SignIn:
    """Return the state after the use of the current token."""
    return replace(
        sign_in,
        generation=sign_in.generation + 1,
        rotated_at=now,
        expires_at=min(now + idle, sign_in.ends_at),
    )
