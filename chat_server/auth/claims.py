"""The claims of a verified token."""

from typing import Any

from msgspec import Struct

from ..protocol.messages import User
from .open_topics import CLOSED, OpenTopics


class TopicGrants(Struct, frozen=True):
    """Topic patterns by grant; see `auth.permissions` for their grammar."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    presence: tuple[str, ...] = ()
    moderate: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()


class Claims(Struct, frozen=True):
    """The claims of a verified token, with defaults in place of missing topic lists.

    Args:
        sub: the user.
        topics: the patterns of topics that the user may use, by action.
        expires_at: seconds since 1970, or None for a token that never expires.
        name: shown to others.
        info: shown to others, at most 1 KiB of JSON.
        valid_from: seconds since 1970, the later of `nbf` and `iat`, or None without either.
        rate_factor: multiplies the user's rates.
        open_topics: the actions that the server allows to every user with a token.
        iat: seconds since 1970 at the token's issue, or None.
        jti: the token's id, or None.
        kid: the key's id in the token's header, or None.
    """

    sub: str
    topics: TopicGrants
    expires_at: int | None = None
    name: str | None = None
    info: dict[str, Any] | None = None
    valid_from: int | None = None
    rate_factor: float = 1.0
    open_topics: OpenTopics = CLOSED
    iat: int | None = None
    jti: str | None = None
    kid: str | None = None

    @property
    def user(self) -> User:
        """The claims that others see."""
        return User(user=self.sub, name=self.name, info=self.info)
