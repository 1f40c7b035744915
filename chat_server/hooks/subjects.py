"""What hooks are given: one object for each occasion."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ..protocol.messages import User

WriteKind = Literal["publish", "signal", "edit", "append", "delete", "react"]
ReadKind = Literal["subscribe", "history", "presence", "position", "read", "unread", "search"]
EventKind = Literal["message", "edited", "appended", "deleted", "reaction"]


class Client(msgspec.Struct, frozen=True):
    """A connection, as `on_connect` and `on_disconnect` see it.

    Args:
        user: whose it is.
        session: the id that `welcome` names.
        address: where it comes from; empty if that is not known.
    """

    user: User
    session: str
    address: str


class Subscription(msgspec.Struct, frozen=True):
    """What somebody wants to read of a topic: `kind` is the command.

    Args:
        topic: the topic.
        kind: `subscribe`, or one of the commands that read a topic without it.
        user: who asks.
        session: the id of the connection; None for a request of HTTP.
    """

    topic: str
    kind: ReadKind | str
    user: User
    session: str | None


class Publication:
    """What somebody wants to write to a topic: `kind` is the command.

    Attributes:
        topic: the topic.
        kind: `publish`, `signal`, `edit`, `append`, `delete` or `react`.
        user: who writes.
        session: the id of the connection; None for a request of HTTP.
        seq: the message that is changed; None for `publish` and `signal`.
        epoch: the epoch that counts `seq`, if the command names it.
        key: the idempotency key, if there is one.
        state: as the command has it.
    """

    __slots__ = (
        *("_load", "_value", "epoch", "key", "kind", "seq", "session", "state", "topic", "user"),
    )

    def __init__(
        self,
        topic: str,
        kind: WriteKind | str,
        user: User,
        session: str | None,
        *,
        load: Callable[[], Any],
        seq: int | None = None,
        epoch: str | None = None,
        key: str | None = None,
        state: str | None = None,
    ) -> None:
        self.topic = topic
        self.kind = kind
        self.user = user
        self.session = session
        self.seq = seq
        self.epoch = epoch
        self.key = key
        self.state = state
        self._load = load
        self._value: Any = msgspec.UNSET

    @property
    def data(self) -> Any:
        """The data: of an `append` the text, of `react` the emoji, of `delete` None.

        What it is when the hook returns is what is published: it may be changed or replaced.
        """
        if self._value is msgspec.UNSET:
            self._value = self._load()
        return self._value

    @data.setter
    def data(self, value: Any) -> None:
        self._value = value

    def take(self) -> Any:
        """Return the data as it is now, or `UNSET` if nobody has looked at it."""
        return self._value


class StoredEvent:
    """A stored event, as `on_event` sees it.

    Attributes:
        topic: the topic.
        kind: `message`, `edited`, `appended`, `deleted` or `reaction`.
        seq: the event's place in the topic's order.
        epoch: of that order.
        at: milliseconds since 1970.
        user: whose it is.
        target: the message that was changed; None for a message.
        state: as the command had it.
        remove: True if a reaction was taken back.
    """

    __slots__ = (
        *("_load", "_value", "at", "epoch", "kind", "remove", "seq", "state", "target"),
        *("topic", "user"),
    )

    def __init__(
        self,
        topic: str,
        kind: EventKind | str,
        *,
        seq: int,
        epoch: str,
        at: int,
        user: User,
        load: Callable[[], Any],
        target: int | None = None,
        state: str | None = None,
        remove: bool = False,
    ) -> None:
        self.topic = topic
        self.kind = kind
        self.seq = seq
        self.epoch = epoch
        self.at = at
        self.user = user
        self.target = target
        self.state = state
        self.remove = remove
        self._load = load
        self._value: Any = msgspec.UNSET

    @property
    def data(self) -> Any:
        """The data that was stored: of an append the text, of a reaction the emoji."""
        if self._value is msgspec.UNSET:
            self._value = self._load()
        return self._value


class Call(msgspec.Struct, frozen=True):
    """A call of a method of the application's.

    Args:
        method: its name.
        data: what came with it, any JSON value.
        user: who calls.
        session: the id of the connection; None for a request of HTTP.
    """

    method: str
    data: Any
    user: User
    session: str | None
