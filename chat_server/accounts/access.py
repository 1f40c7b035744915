"""Access tokens for users known to this server."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from ..auth.tokens import Issuer
from ..clock import Clock
from ..settings import Settings
from .roles import MEMBER, topics_of


class Identity(Struct, frozen=True):
    """A user's identity, from an application that signs in its users itself.

    Args:
        user: the `sub` of the token, 1 to 255 characters.
        name: the name that other users see.
        info: data that other users see, at most 1 KiB of JSON.
        roles: names of `accounts.roles`; the token gets their patterns.
    """

    user: str
    name: str | None = None
    info: dict[str, Any] | None = None
    roles: Sequence[str] = (MEMBER,)


class AccessToken(Struct, frozen=True):
    """An access token, and its lifetime in seconds."""

    token: str
    expires_in: int


class Revoking(Protocol):
    """Revokes access tokens before they expire."""

    async def revoke(self, user: str, reason: str) -> None:
        """Revoke every token issued to a user so far; failures are logged."""
        ...

    async def settle(self, user: str) -> None:
        """Wait until a newly issued token of a user is later than every revocation."""
        ...


class AccessTokens:
    """Issues access tokens.

    Args:
        settings: the server's settings, with a shared secret.
        clock: gives the time of issue.

    Raises:
        SettingsError: the settings have no shared secret.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._issuer = Issuer(settings.auth, clock)

    def issue(self, identity: Identity) -> AccessToken:
        """Return a token for a user.

        Raises:
            ValueError: no server would accept the token; the message has the reason.
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
