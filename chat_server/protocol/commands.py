"""Every command of `chat.v1`, client to server, as a tagged Struct (docs/protocol.md, section 2).

Each has a row in `command_table` and a function in `service/operations`. Its `type` on the wire is
the name of its class in lower case.
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
    """What a client asks for; `id` asks for an answer bearing the same number."""

    id: Id | None = None


class TopicCommand(Command):
    """A command about one topic."""

    topic: TopicName


class Auth(Command):
    """Present a token, or refresh that of a live connection."""

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
    """Send a message to a topic; `data` is JSON text whatever the connection's encoding."""

    data: Raw
    key: Key | None = None
    state: Literal["streaming"] | None = None


class Signal(TopicCommand):
    """Tell a topic's present subscribers something that nobody stores."""

    data: Raw


class ChangeCommand(TopicCommand):
    """A command that changes the message `seq` of a topic; `epoch` is the one that counts it."""

    seq: Target
    epoch: Epoch | None = None
    key: Key | None = None


class Edit(ChangeCommand, kw_only=True):
    """Put other data into a message."""

    data: Raw


class Append(ChangeCommand, kw_only=True):
    """Add to the text of a message that grows."""

    text: str
    state: MessageState = "streaming"


class Delete(ChangeCommand):
    """Take a message's data away."""


class React(ChangeCommand, kw_only=True):
    """Add a reaction to a message, or take it back."""

    emoji: Emoji
    remove: bool = False


class History(TopicCommand):
    """Read a topic's stored messages."""

    before: Seq | None = None
    after: Seq | None = None
    limit: HistoryLimit = DEFAULT_HISTORY


class Presence(TopicCommand):
    """Read who is in a topic."""

    after: UserName | None = None
    limit: PresenceLimit = DEFAULT_PRESENCE


class Read(TopicCommand):
    """Say up to which event a user has read a topic; `epoch` is the one that counts it."""

    seq: Seq
    epoch: Epoch | None = None


class Unread(Command):
    """Ask what a user has not read in some topics."""

    topics: UnreadTopics
    readers: bool | None = None


class Call(Command, kw_only=True):
    """Call a method of the application's."""

    method: Method
    data: Raw


class Ping(Command):
    """Ask for a `pong`."""
