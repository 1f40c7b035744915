"""Every message of `chat.v1` from server to client, as a Struct (docs/protocol.md, section 3)."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class User(Struct, omit_defaults=True, frozen=True):
    """Who published something, as others see it."""

    user: str
    name: str | None = None
    info: dict[str, Any] | None = None


class Limits(Struct, frozen=True):
    """What a connection and its user may do, and how long a repeated `key` stores nothing."""

    max_message_bytes: int
    max_topics: int
    max_pending_commands: int
    messages_per_second: float
    message_burst: int
    idempotency_seconds: float = 300.0  # of servers that do not say it


class ServerMessage(Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """What the server sends."""


class Welcome(ServerMessage, tag="welcome", kw_only=True):
    """The first message after authentication; `expires_at` is in seconds since 1970."""

    session: str
    user: str
    server: str
    heartbeat_seconds: float
    limits: Limits
    expires_at: int | None = None


class Reactions(Struct, frozen=True):
    """How many users reacted to a message with one emoji, and the first of them."""

    count: int
    users: list[str]


class Message(ServerMessage, tag="message", kw_only=True):
    """A stored message.

    Args:
        topic: the topic.
        seq: its place in the topic's order.
        at: milliseconds since 1970.
        from: whose message it is, if anybody's.
        data: what was published, or what edits and appends have made of it; None once deleted.
        state: `streaming` while it grows, then `complete` or `cancelled`; None for most messages.
        edited_at: milliseconds since 1970 of the last edit.
        deleted: True once it is deleted.
        reactions: by emoji, in the order of the first use.
        version: the seq of the last change that this message shows; None without any.
    """

    topic: str
    seq: int
    at: int
    sender: User | None = field(name="from")
    data: Any
    state: str | None = None
    edited_at: int | None = None
    deleted: bool = False
    reactions: dict[str, Reactions] = {}
    version: int | None = None


class Changed(ServerMessage, kw_only=True):
    """A stored event that changes the message `target`; `at` is in milliseconds since 1970."""

    topic: str
    seq: int
    at: int
    sender: User | None = field(name="from")
    target: int


class Edited(Changed, tag="edited", kw_only=True):
    """A message has other data; None if the message is deleted by now."""

    data: Any


class Appended(Changed, tag="appended", kw_only=True):
    """A message's text has grown.

    Args:
        length: Unicode code points of the whole text.
        text: what was added.
        state: what became of the message.
        first: the seq of the first event that this one stands for, if there are several.
    """

    length: int
    text: str
    state: str = "streaming"
    first: int | None = None


class Deleted(Changed, tag="deleted", kw_only=True):
    """A message has no data any more."""


class Reaction(Changed, tag="reaction", kw_only=True):
    """A user has reacted to a message, or has taken the reaction back."""

    emoji: str
    remove: bool = False


class Ok(Struct, omit_defaults=True, kw_only=True):
    """What a command answers when it succeeds, whoever asked.

    On a WebSocket `Codec.encode_ok` adds the `type` and the command's `id`; by HTTP the fields are
    the body.
    """


class AuthOk(Ok, kw_only=True):
    """Answers `auth`; `expires_at` is in seconds since 1970."""

    user: str
    expires_at: int | None = None


class CallOk(Ok, kw_only=True):
    """Answers `call`: what the application's method returned."""

    data: Any


class TopicOk(Ok, kw_only=True):
    """Answers `unsubscribe` and `signal`."""

    topic: str


class PresentUser(User, omit_defaults=True, frozen=True, kw_only=True):
    """A user in a topic, and the number of the user's connections.

    There is none for a moment after the last one has ended: the user may come back.
    """

    connections: int


class PresenceOk(Ok, kw_only=True):
    """Users in a topic in the order of their names, and how many there are; `more` may follow."""

    topic: str
    count: int
    connections: int
    # Encoded already: each is a `Raw` of JSON.
    users: list[PresentUser]
    more: bool


class SubscribeOk(Ok, kw_only=True):
    """Answers `subscribe`; the replayed events follow it."""

    topic: str
    epoch: str
    seq: int
    recovered: bool
    replayed: int
    reason: str | None = None
    presence: PresenceOk | None = None


class PublishOk(Ok, kw_only=True):
    """The place of a message in its topic's log; `at` is in milliseconds since 1970."""

    topic: str
    seq: int
    epoch: str
    at: int
    duplicate: bool


class TargetOk(Ok, kw_only=True):
    """The place of an event that changes the message `target`."""

    topic: str
    seq: int
    target: int
    epoch: str
    at: int
    duplicate: bool


class ChangeOk(TargetOk, kw_only=True):
    """Answers `edit`, `delete` and `react`."""


class AppendOk(TargetOk, kw_only=True):
    """Answers `append`; `length` is that of the whole text, in Unicode code points."""

    length: int


class PositionOk(Ok, kw_only=True):
    """The last seq of a topic."""

    topic: str
    epoch: str
    seq: int


class ReadOk(Ok, kw_only=True):
    """Answers `read`: where the cursor is, and how many messages of others are behind it."""

    topic: str
    seq: int
    unread: int


class Reader(Struct, frozen=True):
    """A user, and the seq up to which the user has read."""

    user: str
    seq: int


class UnreadIn(Struct, omit_defaults=True, kw_only=True):
    """What a user has not read in a topic.

    Args:
        read: the seq up to which the user has read; 0 if nothing.
        seq: the last seq of the topic.
        unread: messages of others behind the cursor, without deleted ones.
        more: True if history does not have all of them any more.
        last: the newest message as it now is.
        readers: the others who have read furthest, in descending order; None unless they were
            asked for and the namespace has `read_receipts`.
    """

    read: int
    seq: int
    unread: int
    more: bool
    # A `Raw` of JSON, whatever the client's encoding.
    last: Message | None = None
    readers: list[Reader] | None = None


class UnreadOk(Ok, kw_only=True):
    """Answers `unread`, by topic."""

    topics: dict[str, UnreadIn]


class HistoryOk(Ok, kw_only=True):
    """Stored messages in ascending order; `more` tells whether a limit left some out."""

    topic: str
    epoch: str
    # Encoded already as the client reads them: each is a `Raw`.
    messages: list[Message]
    more: bool


class Error(ServerMessage, tag="error", kw_only=True):
    """A command failed, or (without `id`) something the client must know happened."""

    code: str
    message: str
    id: int | None = None
    topic: str | None = None
    retry_in_ms: int | None = None
    # Of `unrecoverable`.
    reason: str | None = None
    epoch: str | None = None
    seq: int | None = None


class SignalPush(ServerMessage, tag="signal", kw_only=True):
    """An ephemeral message."""

    topic: str
    sender: User | None = field(name="from")
    data: Any
    at: int


class Join(ServerMessage, tag="join", kw_only=True):
    """A user's first connection subscribed to a topic."""

    topic: str
    user: str
    name: str | None = None
    info: dict[str, Any] | None = None


class Leave(ServerMessage, tag="leave", kw_only=True):
    """A user's last connection to a topic has ended."""

    topic: str
    user: str
    name: str | None = None
    info: dict[str, Any] | None = None


class PresencePush(ServerMessage, tag="presence", kw_only=True):
    """Who came to a topic and who went; `more` if that is not all, and the client has to ask."""

    topic: str
    count: int
    connections: int
    joined: list[User]
    left: list[User]
    more: bool = False


class ReadPush(ServerMessage, tag="read", kw_only=True):
    """A user has read a topic up to an event."""

    topic: str
    user: str
    seq: int


class Gap(ServerMessage, tag="gap", kw_only=True):
    """Nothing between these two seqs (both exclusive) will be delivered."""

    topic: str
    epoch: str
    after: int
    before: int
    reason: str


class Goodbye(ServerMessage, tag="goodbye", kw_only=True):
    """The server is about to close the connection on purpose."""

    code: int
    reason: str
    reconnect_in_ms: int


class Pong(ServerMessage, tag="pong", kw_only=True):
    """Answers `ping`."""

    id: int | UnsetType = UNSET
