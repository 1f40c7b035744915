"""Access tokens for users whom this server knows."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from ..auth.tokens import Issuer
from ..clock import Clock
from ..settings import Settings
from .roles import MEMBER, topics_of


class Identity(Struct, frozen=True):
    """Who a user is, as an application that signs its users in itself tells the server.

    Args:
        user: the `sub` of the token, 1 to 255 characters.
        name: shown to others.
        info: shown to others, at most 1 KiB of JSON.
        roles: names of `accounts.roles`, whose patterns the token gets.
    """

    user: str
    name: str | None = None
    info: dict[str, Any] | None = None
    roles: Sequence[str] = (MEMBER,)


class AccessToken(Struct, frozen=True):
    """A token, and for how many seconds it is valid."""

    token: str
    expires_in: int


class Revoking(Protocol):
    """Takes access tokens back before they expire."""

    async def revoke(self, user: str, reason: str) -> None:
        """Accept no token of a user that was issued up to now; what prevents that is logged."""
        ...

    async def settle(self, user: str) -> None:
        """Wait until a token that is issued to a user is none of those that are revoked."""
        ...


class AccessTokens:
    """Issues access tokens.

    Args:
        settings: the server's, with a shared secret.
        clock: tells the time of issue.

    Raises:
        SettingsError: there is no shared secret.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._issuer = Issuer(settings.auth, clock)

    def issue(self, identity: Identity) -> AccessToken:
        """Return a token for a user.

        Raises:
            ValueError: no server would accept the token; the message says why.
        """
        seconds = self._settings.accounts.access_seconds
        token = self._issuer.issue(
            sub=identity.user,
            name=identity.name,
            info=identity.info,
            topics=topics_of(identity.roles, self._settings) or None,
            ttl_seconds=seconds,
        )
        return AccessToken(token, math.ceil(seconds))
