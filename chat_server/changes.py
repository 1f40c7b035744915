"""The vocabulary of changes to messages: what a worker asks of the store, and what that answers.

docs/design/messages.md says how the store keeps them.
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
"""Maximum number of users remembered for one reaction to one message; the count goes on."""

NAMED_USERS: Final = 10
"""Number of users that a message names with each reaction."""

STREAMING: Final = "streaming"
"""The state of a message that grows. `complete` and `cancelled` end it."""


class Change(Draft, frozen=True, kw_only=True):
    """A draft of an event that changes a message; of this very class, the event deletes it.

    Args:
        target: the message's seq.
        author: JSON text with which the message's `from` has to begin; None if anybody's message
            may be changed.
        epoch: the epoch that counts `target`; None for the present one, whichever that is.
    """

    target: int
    author: bytes | None
    epoch: str | None = None


class Edit(Change, frozen=True, kw_only=True):
    """Puts other data into a message.

    Args:
        data: the data as JSON.
    """

    data: bytes


class Piece(Struct, frozen=True):
    """What one `append` adds.

    Args:
        text: the body of a JSON string.
        length: Unicode code points.
        key: idempotency key, scoped as that of a draft.
    """

    text: bytes
    length: int
    key: str | None = None


class Split(Struct, frozen=True):
    """A message's data, split where its text ends.

    Args:
        version: the version of the message that was split.
        front: JSON text of `data` up to the end of its text.
        back: JSON text of `data` behind its text.
        length: Unicode code points of the text.
    """

    version: int
    front: bytes
    back: bytes
    length: int


class Append(Change, frozen=True, kw_only=True):
    """Adds to a message's text. The keys are those of the pieces.

    Args:
        pieces: the texts to add, at least one.
        state: what becomes of the message: `streaming`, `complete` or `cancelled`.
        max_bytes: the largest `data` that the message may have afterwards, in bytes of JSON.
        split: where the message's text ends, if the store had to ask.
    """

    pieces: tuple[Piece, ...]
    state: str
    max_bytes: int
    split: Split | None = None


class Reaction(Change, frozen=True, kw_only=True):
    """Adds a user's reaction, or takes it back.

    Args:
        user: the user as JSON.
        emoji: the reaction.
        remove: True to take it back.
    """

    user: bytes
    emoji: str
    remove: bool = False


class Outcome(StrEnum):
    """What became of a change."""

    STORED = "stored"
    NOT_FOUND = "not_found"
    """The target is not among the messages that are kept."""
    BEGUN_ANEW = "begun_anew"
    """The target is of an epoch that is gone, and the present one has not taken it over."""
    FORBIDDEN = "forbidden"
    """The target has another author."""
    GONE = "gone"
    """The target is deleted, or its text has ended."""
    TOO_LARGE = "too_large"
    """The message would have more data than `Append.max_bytes`."""
    TOO_MANY = "too_many"
    """The target has `MAX_EMOJI` different reactions."""
    NO_REACTION = "no_reaction"
    """There is no such reaction of the user's to take back."""
    RATE_LIMITED = "rate_limited"
    """A rate of the topic is used up."""
    SPLIT = "split"
    """The store has to be told where the text ends: the append is to be sent again with `split`."""


class ChangeResult(Struct, frozen=True):
    """The answer to a change.

    Args:
        outcome: nothing was stored unless this is `STORED`.
        places: one for each piece of an append, one for every other change; none unless stored.
        data: with `SPLIT`, the message's data as JSON.
        version: with `SPLIT`, the message's version.
        limited: with `RATE_LIMITED`, why and for how long.
    """

    outcome: Outcome
    places: tuple[PublishResult, ...] = ()
    data: bytes = b""
    version: int = 0
    limited: Exceeded | None = None


class Reacted(Struct, frozen=True):
    """One reaction to a message: how many users, and the first of them as JSON."""

    emoji: str
    count: int
    users: tuple[bytes, ...]


class MessageState(Struct, frozen=True):
    """What changes have made of a message.

    Args:
        version: the seq of the last of them.
        edited_at: milliseconds since 1970; 0 if it was never edited.
        state: `streaming`, `complete`, `cancelled`, or empty if nothing was appended.
        data: the data as JSON; None if it is as it was.
        reactions: the reactions, in the order in which they were first used.
    """

    version: int
    edited_at: int = 0
    state: str = ""
    data: bytes | None = None
    reactions: tuple[Reacted, ...] = ()


def split_of(data: bytes, version: int) -> Split | None:
    """Return a message's data split where its text ends, or None if it has no text.

    Args:
        data: JSON; the text is the whole of it, or its member `text`.
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
