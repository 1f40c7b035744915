"""The vocabulary of changes to messages: a worker's requests to the store, and the results.

docs/design/messages.md describes the storage of changes.
"""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Raw, Struct

from .events import Draft, PublishResult
from .rates import Exceeded

MAX_EMOJI: Final = 20
"""Maximum number of different reactions to one message."""

MAX_REACTING: Final = 1_000
"""Maximum number of users remembered for one reaction to one message; the count is still exact."""

NAMED_USERS: Final = 10
"""Number of users named in a message with each reaction."""

STREAMING: Final = "streaming"
"""The state of a message that grows by appends. `complete` and `cancelled` end this state."""


class Change(Draft, frozen=True, kw_only=True):
    """A draft of an event that changes a message; an instance of this very class deletes it.

    Args:
        target: the message's seq.
        author: JSON text at the beginning of the message's `from`; None if messages of all users
            may be changed.
        epoch: the epoch of `target`; None for the present epoch.
    """

    target: int
    author: bytes | None
    epoch: str | None = None


class Edit(Change, frozen=True, kw_only=True):
    """Replaces the data of a message.

    Args:
        data: the data as JSON.
    """

    data: bytes


class Piece(Struct, frozen=True):
    """The addition of one `append`.

    Args:
        text: the body of a JSON string.
        length: Unicode code points.
        key: idempotency key, scoped like the key of a draft.
    """

    text: bytes
    length: int
    key: str | None = None


class Split(Struct, frozen=True):
    """A message's data, split at the end of its text.

    Args:
        version: the version of the split message.
        front: JSON text of `data` up to the end of the text.
        back: JSON text of `data` after the text.
        length: Unicode code points of the text.
    """

    version: int
    front: bytes
    back: bytes
    length: int


class Append(Change, frozen=True, kw_only=True):
    """Adds to a message's text. The pieces have the idempotency keys.

    Args:
        pieces: the texts to add, at least one.
        state: the message's state afterwards: `streaming`, `complete` or `cancelled`.
        max_bytes: the maximum size of the message's `data` afterwards, in bytes of JSON.
        split: the split at the end of the message's text, if the store has asked for it.
    """

    pieces: tuple[Piece, ...]
    state: str
    max_bytes: int
    split: Split | None = None


class Reaction(Change, frozen=True, kw_only=True):
    """Adds or removes a user's reaction.

    Args:
        user: the user as JSON.
        emoji: the reaction.
        remove: True to remove the reaction.
    """

    user: bytes
    emoji: str
    remove: bool = False


class Outcome(StrEnum):
    """The result of a change."""

    STORED = "stored"
    NOT_FOUND = "not_found"
    """The target is not among the stored messages."""
    BEGUN_ANEW = "begun_anew"
    """The target belongs to an earlier epoch, and the present epoch has not taken it over."""
    FORBIDDEN = "forbidden"
    """The target has another author."""
    GONE = "gone"
    """The target is deleted, or its text has ended."""
    TOO_LARGE = "too_large"
    """The message would have more data than `Append.max_bytes`."""
    TOO_MANY = "too_many"
    """The target has `MAX_EMOJI` different reactions."""
    NO_REACTION = "no_reaction"
    """The user has no such reaction to remove."""
    RATE_LIMITED = "rate_limited"
    """A rate of the topic is exceeded."""
    SPLIT = "split"
    """The store needs to know the end of the text: the append must be sent again with `split`."""


class ChangeResult(Struct, frozen=True):
    """The answer to a change.

    Args:
        outcome: `STORED`; with every other outcome nothing was stored.
        places: one for each piece of an append, one for every other change; empty unless stored.
        data: with `SPLIT`, the message's data as JSON.
        version: with `SPLIT`, the message's version.
        limited: with `RATE_LIMITED`, the exceeded rate.
    """

    outcome: Outcome
    places: tuple[PublishResult, ...] = ()
    data: bytes = b""
    version: int = 0
    limited: Exceeded | None = None


class Reacted(Struct, frozen=True):
    """One reaction to a message: the number of users, and the first of the users as JSON."""

    emoji: str
    count: int
    users: tuple[bytes, ...]


class MessageState(Struct, frozen=True):
    """The result of all changes of a message.

    Args:
        version: the seq of the last change.
        edited_at: milliseconds since 1970; 0 for a message without edits.
        state: `streaming`, `complete`, `cancelled`, or empty without appends.
        data: the data as JSON; None for unchanged data.
        reactions: the reactions, in the order of their first use.
    """

    version: int
    edited_at: int = 0
    state: str = ""
    data: bytes | None = None
    reactions: tuple[Reacted, ...] = ()


def split_of(data: bytes, version: int) -> Split | None:
    """Return a message's data split at the end of its text, or None if the message has no text.

    Args:
        data: JSON; the text is either all of the data or the member `text`.
        version: the version of the message.
    """
    value = msgspec.json.decode(data)
    if isinstance(value, str):
        return Split(version, data[:-1], data[-1:], len(value))
    if not isinstance(value, dict) or not isinstance(text := value.get("text"), str):
        return None
    members = msgspec.json.decode(data, type=dict[str, Raw])
    body = bytes(members.pop("text"))
    others = msgspec.json.encode(members)[:-1]
    comma = b"," if members else b""
    return Split(version, others + comma + b'"text":' + body[:-1], body[-1:] + b"}", len(text))
