"""Every message of `chat.v1` from server to client, as a Struct (docs/protocol.md, section 3)."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class User(Struct, omit_defaults=True, frozen=True):
    """The publisher of a message, as others see the user."""

    user: str
    name: str | None = None
    info: dict[str, Any] | None = None


class Limits(Struct, frozen=True):
    """The limits of a connection and its user, and the seconds for which a `key` is remembered."""

    max_message_bytes: int
    max_topics: int
    max_pending_commands: int
    messages_per_second: float
    message_burst: int
    idempotency_seconds: float = 300.0  # the default for servers that do not send the field


class ServerMessage(Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """A message of the server."""


class Welcome(ServerMessage, tag="welcome", kw_only=True):
    """The first message after authentication; `expires_at` is in seconds since 1970."""

    session: str
    user: str
    server: str
    heartbeat_seconds: float
    limits: Limits
    expires_at: int | None = None


class Reactions(Struct, frozen=True):
    """The number of users who reacted to a message with one emoji, and the first of the users."""

    count: int
    users: list[str]


class Message(ServerMessage, tag="message", kw_only=True):
    """A stored message.

    Args:
        topic: the topic.
        seq: the message's place in the topic's order.
        at: milliseconds since 1970.
        from: the publisher; None for a message without one.
        data: the published data, or their state after edits and appends; None once deleted.
        state: `streaming` while the text grows, then `complete` or `cancelled`; None for most
            messages.
        edited_at: milliseconds since 1970 of the last edit.
        deleted: True once the message is deleted.
        reactions: reactions by emoji, in the order of the first use.
        version: the seq of the last change that this message includes; None without any.
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
    """A message has new data; None if the message is deleted by now."""

    data: Any


class Appended(Changed, tag="appended", kw_only=True):
    """A message's text has grown.

    Args:
        length: Unicode code points of the whole text.
        text: the added text.
        state: the message's state after the event.
        first: the seq of the first of several merged events; None for a single event.
    """

    length: int
    text: str
    state: str = "streaming"
    first: int | None = None


class Deleted(Changed, tag="deleted", kw_only=True):
    """A message has no data any more."""


class Reaction(Changed, tag="reaction", kw_only=True):
    """A user has added a reaction to a message, or has removed one."""

    emoji: str
    remove: bool = False


class Ok(Struct, omit_defaults=True, kw_only=True):
    """The answer to a successful command.

    On a WebSocket `Codec.encode_ok` adds the `type` and the command's `id`. By HTTP the fields are
    the body.
    """


class AuthOk(Ok, kw_only=True):
    """Answers `auth`; `expires_at` is in seconds since 1970."""

    user: str
    expires_at: int | None = None


class CallOk(Ok, kw_only=True):
    """Answers `call` with the result of the application's method."""

    data: Any


class TopicOk(Ok, kw_only=True):
    """Answers `unsubscribe` and `signal`."""

    topic: str


class PresentUser(User, omit_defaults=True, frozen=True, kw_only=True):
    """A user in a topic, and the number of the user's connections.

    For a moment after the last connection has ended the number is 0: the user may come back.
    """

    connections: int


class PresenceOk(Ok, kw_only=True):
    """Users in a topic in the order of their names, and the total; `more` if others follow."""

    topic: str
    count: int
    connections: int
    # The users are encoded already: each is a `Raw` of JSON.
    users: list[PresentUser]
    more: bool


class SubscribeOk(Ok, kw_only=True):
    """Answers `subscribe`; the replayed events follow."""

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
    """Answers `append`; `length` is the length of the whole text, in Unicode code points."""

    length: int


class PositionOk(Ok, kw_only=True):
    """The last seq of a topic."""

    topic: str
    epoch: str
    seq: int


class ReadOk(Ok, kw_only=True):
    """Answers `read`: the cursor's place, and the number of unread messages of others."""

    topic: str
    seq: int
    unread: int


class Reader(Struct, frozen=True):
    """A user, and the seq up to which the user has read."""

    user: str
    seq: int


class UnreadIn(Struct, omit_defaults=True, kw_only=True):
    """The unread state of a user in a topic.

    Args:
        read: the seq up to which the user has read; 0 without any.
        seq: the last seq of the topic.
        unread: number of messages of others after the cursor, without deleted ones.
        more: True if history does not have all unread messages any more.
        last: the newest message in its present state.
        readers: the other users who have read furthest, in descending order; None unless
            requested and the namespace has `read_receipts`.
    """

    read: int
    seq: int
    unread: int
    more: bool
    # The message is a `Raw` of JSON in any encoding of the client.
    last: Message | None = None
    readers: list[Reader] | None = None


class UnreadOk(Ok, kw_only=True):
    """Answers `unread`, by topic."""

    topics: dict[str, UnreadIn]


class HistoryOk(Ok, kw_only=True):
    """Stored messages in ascending order; `more` is True if a limit left some out."""

    topic: str
    epoch: str
    # The messages are encoded already in the client's encoding: each is a `Raw`.
    messages: list[Message]
    more: bool


class Error(ServerMessage, tag="error", kw_only=True):
    """A command failed, or (without `id`) the client must know of another event."""

    code: str
    message: str
    id: int | None = None
    topic: str | None = None
    retry_in_ms: int | None = None
    # The next three fields belong to `unrecoverable`.
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
    """Users who came to a topic and who left; `more` if the client has to ask for the rest."""

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
