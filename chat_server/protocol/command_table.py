"""The table of commands: each row says in which states a command is accepted, and how it runs.

A command is a Struct of `commands`, a row of this table, and a function of `service/operations`.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

from .commands import (
    Append,
    Auth,
    Call,
    Command,
    Delete,
    Edit,
    History,
    Ping,
    Presence,
    Publish,
    React,
    Read,
    Signal,
    Subscribe,
    Unread,
    Unsubscribe,
)
from .messages import Pong

Grant = Literal["subscribe", "publish", "history", "presence", "moderate", "admin"]
"""The grants of a token in a topic."""


class State(Enum):
    """The stage of a session, in the order of its life."""

    AUTHENTICATING = auto()
    OPEN = auto()
    EXPIRED = auto()
    CLOSED = auto()


ALWAYS = frozenset({State.AUTHENTICATING, State.OPEN, State.EXPIRED})
WITH_TOKEN = frozenset({State.OPEN})
AFTER_EXPIRY = frozenset({State.OPEN, State.EXPIRED})


class Row(Struct, frozen=True, kw_only=True):
    """One row of the table.

    Args:
        states: the states of a session in which the command is accepted.
        grant: the grant that the token needs in the command's topic; None for no grant.
        moderated: True if the grant `moderate` suffices too.
        overlaps: True if the command may run beside other overlapping commands. Every other command
            runs alone.
        overtakes: True if the command may start while overlapping commands are under way. Later
            commands still wait.
        has_data: True if the field `data` comes from the client and must be checked.
        joins: True if the command adds its topic to the session's subscriptions.
        leaves: True if the command removes its topic from the session's subscriptions.
        one_of: two fields that exclude each other.
        pushes: the message that answers the command at once, ahead of earlier commands. Nothing
            else is done.
    """

    states: frozenset[State] = WITH_TOKEN
    grant: Grant | None = None
    moderated: bool = False
    overlaps: bool = False
    overtakes: bool = False
    has_data: bool = False
    joins: bool = False
    leaves: bool = False
    one_of: tuple[str, str] | None = None
    pushes: type[Pong] | None = None


Commands = Mapping[type[Command], Row]

COMMANDS: Commands = MappingProxyType(
    {
        Auth: Row(states=ALWAYS, overtakes=True),
        Subscribe: Row(grant="subscribe", joins=True, one_of=("since", "last")),
        Unsubscribe: Row(states=AFTER_EXPIRY, leaves=True),
        Publish: Row(grant="publish", overlaps=True, has_data=True),
        Signal: Row(grant="publish", overlaps=True, has_data=True),
        Edit: Row(grant="publish", moderated=True, overlaps=True, has_data=True),
        Append: Row(grant="publish", moderated=True, overlaps=True),
        Delete: Row(grant="publish", moderated=True, overlaps=True),
        React: Row(grant="publish", overlaps=True),
        History: Row(grant="history", one_of=("before", "after")),
        Presence: Row(grant="presence"),
        Read: Row(grant="subscribe", overlaps=True),
        Unread: Row(),
        Call: Row(overlaps=True, has_data=True),
        Ping: Row(states=ALWAYS, pushes=Pong),
    }
)

ALONE = Row(states=ALWAYS)
"""The row of `Session.hold`: no command, but every command waits until it has ended."""

UNREADABLE = Row(states=ALWAYS, overlaps=True)
"""The row of a message that is no command, so that its error is sent in order."""
