"""Refresh tokens: how a sign-in goes on, and how a stolen token is found out.

A sign-in has one row, and its tokens are numbered by generation. A token is the sign-in, its
generation and a signature over both, so no token is stored: a stolen database holds none.

    current             -> rotated: the next generation is current
    the one before, soon after it was replaced
                        -> repeated: the same current token again
    any other           -> stolen: the sign-in ends for whoever holds one of its tokens

A token is used twice without any thief if its answer was lost, or if two tabs renew at once. Both
come within seconds, and get the same token then. Later somebody else holds a copy: nobody can tell
who of the two asks, so both have to sign in again (RFC 9700, section 4.14.2).
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
    """What a refresh token says.

    Args:
        sign_in: the id of the sign-in, `ID_BYTES` long.
        generation: the number of rotations before it.
    """

    sign_in: bytes
    generation: int


class RefreshTokens:
    """Writes and reads refresh tokens.

    Args:
        secret: signs them; those that were signed with another one are not read.
    """

    def __init__(self, secret: bytes) -> None:
        # A key of its own: what signs JWTs must sign nothing else.
        self._key = hmac.digest(secret, b"chat_server: refresh tokens", hashlib.sha256)

    def write(self, token: RefreshToken) -> str:
        """Return the text of a token."""
        body = token.sign_in + token.generation.to_bytes(_GENERATION_BYTES)
        return urlsafe_b64encode(body + self._mac(body)).decode()

    def read(self, text: str) -> RefreshToken | None:
        """Return what a token says, or None if it was not written with this secret."""
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
        user: who has signed in.
        generation: of the token that is current.
        rotated_at: when it became current.
        expires_at: until when it can be used.
        ends_at: until when the sign-in can be prolonged at all.
        ended: why it has ended, or None.
    """

    user: str
    generation: int
    rotated_at: int
    expires_at: int
    ends_at: int
    ended: str | None = None


class Verdict(Enum):
    """What is to be done about a token that comes."""

    ROTATE = auto()
    REPEAT = auto()
    STOLEN = auto()
    OVER = auto()


def judge(sign_in: SignIn, generation: int, now: int, grace: int) -> Verdict:
    """Return what is to be done about a token of a sign-in.

    Args:
        sign_in: the state now.
        generation: of the token.
        now: milliseconds since 1970.
        grace: milliseconds for which the token before the current one is answered with that.
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
        user: who has signed in.
        now: milliseconds since 1970.
        idle: milliseconds after which an unused token expires.
        longest: milliseconds after which the user must sign in again in any case.
    """
    return SignIn(user, 0, now, now + min(idle, longest), now + longest)


def rotated(sign_in: SignIn, now: int, idle: int) -> SignIn:
    """Return the state once its current token was used."""
    return replace(
        sign_in,
        generation=sign_in.generation + 1,
        rotated_at=now,
        expires_at=min(now + idle, sign_in.ends_at),
    )
