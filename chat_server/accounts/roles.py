"""The grants of roles."""

from collections.abc import Iterable, Mapping
from typing import Final

from ..auth.claims import TopicGrants
from ..settings import Role, Settings

MEMBER: Final = "member"
"""The role of a user who signs up without an invitation."""

_ACTIONS = TopicGrants.__struct_fields__


def join(roles: Iterable[str]) -> str:
    """Return roles in the format of a column."""
    return ",".join(roles)


def split(roles: str) -> tuple[str, ...]:
    """Return the roles of a column."""
    return tuple(filter(None, roles.split(",")))


def topics_of(roles: Iterable[str], settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the patterns by action for the token of a user.

    The result omits an action without patterns from roles: `auth.default_topics` apply.
    """
    granted = {}
    for action in _ACTIONS:
        added = [p for role in _known(roles, settings) for p in getattr(role, action)]
        if added:
            # `default_topics` has no `admin`: there are no operators by default.
            patterns = (*getattr(settings.auth.default_topics, action, ()), *added)
            granted[action] = tuple(dict.fromkeys(patterns))
    return granted


def may_read_users(roles: Iterable[str], settings: Settings) -> bool:
    """Return True if one of the roles allows to see all users."""
    return any(role.users in ("read", "manage") for role in _known(roles, settings))


def may_manage_users(roles: Iterable[str], settings: Settings) -> bool:
    """Return True if one of the roles allows to invite users."""
    return any(role.users == "manage" for role in _known(roles, settings))


def _known(roles: Iterable[str], settings: Settings) -> list[Role]:
    # A role that is no longer in the settings grants nothing.
    known: Mapping[str, Role] = settings.accounts.roles
    return [known[name] for name in roles if name in known]
