"""What the roles of a user allow."""

from collections.abc import Iterable, Mapping
from typing import Final

from ..auth.claims import TopicGrants
from ..settings import Role, Settings

MEMBER: Final = "member"
"""The role of who signs up without an invitation."""

_ACTIONS = TopicGrants.__struct_fields__


def join(roles: Iterable[str]) -> str:
    """Return roles as a column holds them."""
    return ",".join(roles)


def split(roles: str) -> tuple[str, ...]:
    """Return the roles of a column."""
    return tuple(filter(None, roles.split(",")))


def topics_of(roles: Iterable[str], settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the patterns by action for the token of a user.

    An action to which no role adds anything is left out: `auth.default_topics` hold for it.
    """
    granted = {}
    for action in _ACTIONS:
        added = [p for role in _known(roles, settings) for p in getattr(role, action)]
        if added:
            # Nobody is an operator by default.
            patterns = (*getattr(settings.auth.default_topics, action, ()), *added)
            granted[action] = tuple(dict.fromkeys(patterns))
    return granted


def may_read_users(roles: Iterable[str], settings: Settings) -> bool:
    """Return whether these roles let a user see all users."""
    return any(role.users in ("read", "manage") for role in _known(roles, settings))


def may_manage_users(roles: Iterable[str], settings: Settings) -> bool:
    """Return whether these roles let a user invite others."""
    return any(role.users == "manage" for role in _known(roles, settings))


def _known(roles: Iterable[str], settings: Settings) -> list[Role]:
    # A role may have gone from the settings; it allows nothing then.
    known: Mapping[str, Role] = settings.accounts.roles
    return [known[name] for name in roles if name in known]
