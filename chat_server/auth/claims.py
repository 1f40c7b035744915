"""The claims of a verified token."""

from typing import Any

from msgspec import Struct

from ..protocol.messages import User
from .open_topics import CLOSED, OpenTopics


class TopicGrants(Struct, frozen=True):
    """Topic patterns by what they allow; see `auth.permissions` for their grammar."""

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
        rate_factor: how many times what others may send the bearer may.
        open_topics: what the server allows everybody with a token.
        iat: seconds since 1970 at which it was issued, or None.
        jti: the token's own name, or None.
        kid: the name of its key in its header, or None.
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
        """The part that others see."""
        return User(user=self.sub, name=self.name, info=self.info)
