"""Every command of `chat.v1`, client to server, as a tagged Struct (docs/protocol.md, section 2).

Each command has a row in `command_table` and a function in `service/operations`. The `type` on the
wire is the name of the class in lower case.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from ..events import MAX_SEQ, Position, Seq
from .topics import TopicName

MAX_ID = 2**53 - 1
MAX_HISTORY = 300
DEFAULT_HISTORY = 50
MAX_PRESENCE = 1_000
DEFAULT_PRESENCE = 100
MAX_USER = 255
MAX_KEY = 64
MAX_EPOCH = 64
MAX_EMOJI_LENGTH = 32
MAX_UNREAD = 128
METHOD_PATTERN = r"^[A-Za-z0-9._-]{1,64}\Z"

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Epoch = Annotated[str, Meta(min_length=1, max_length=MAX_EPOCH)]
Target = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
Emoji = Annotated[str, Meta(min_length=1, max_length=MAX_EMOJI_LENGTH)]
MessageState = Literal["streaming", "complete", "cancelled"]
UnreadTopics = Annotated[list[str], Meta(min_length=1, max_length=MAX_UNREAD)]
HistoryLimit = Annotated[int, Meta(ge=1, le=MAX_HISTORY)]
PresenceLimit = Annotated[int, Meta(ge=1, le=MAX_PRESENCE)]
Method = Annotated[str, Meta(pattern=METHOD_PATTERN)]
UserName = Annotated[str, Meta(min_length=1, max_length=MAX_USER)]


class Command(Struct, tag_field="type", tag=str.lower, kw_only=True):
    """A client's command; a command with an `id` gets an answer with the same number."""

    id: Id | None = None


class TopicCommand(Command):
    """A command about one topic."""

    topic: TopicName


class Auth(Command):
    """Present a token, or refresh the token of a live connection."""

    token: str


class Subscribe(TopicCommand):
    """Receive a topic's events, from now on or from an earlier position."""

    since: Position | None = None
    last: HistoryLimit | None = None
    strict: bool = False
    presence: bool = False


class Unsubscribe(TopicCommand):
    """Stop receiving a topic's events."""


class Publish(TopicCommand):
    """Send a message to a topic; `data` is JSON text in any encoding of the connection."""

    data: Raw
    key: Key | None = None
    state: Literal["streaming"] | None = None


class Signal(TopicCommand):
    """Send a topic's present subscribers a message that is not stored."""

    data: Raw


class ChangeCommand(TopicCommand):
    """A command that changes the message `seq` of a topic; `epoch` is the epoch of `seq`."""

    seq: Target
    epoch: Epoch | None = None
    key: Key | None = None


class Edit(ChangeCommand, kw_only=True):
    """Replace the data of a message."""

    data: Raw


class Append(ChangeCommand, kw_only=True):
    """Add to the text of a streaming message."""

    text: str
    state: MessageState = "streaming"


class Delete(ChangeCommand):
    """Remove a message's data."""


class React(ChangeCommand, kw_only=True):
    """Add a reaction to a message, or remove a reaction."""

    emoji: Emoji
    remove: bool = False


class History(TopicCommand):
    """Read a topic's stored messages."""

    before: Seq | None = None
    after: Seq | None = None
    limit: HistoryLimit = DEFAULT_HISTORY


class Presence(TopicCommand):
    """Read the users in a topic."""

    after: UserName | None = None
    limit: PresenceLimit = DEFAULT_PRESENCE


class Read(TopicCommand):
    """Move the user's read cursor of a topic to an event; `epoch` is the epoch of `seq`."""

    seq: Seq
    epoch: Epoch | None = None


class Unread(Command):
    """Read the user's unread state of some topics."""

    topics: UnreadTopics
    readers: bool | None = None


class Call(Command, kw_only=True):
    """Call a method of the application."""

    method: Method
    data: Raw


class Ping(Command):
    """Ask for a `pong`."""
