"""The arguments of hooks: one class for each occasion."""

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
        user: the user of the connection.
        session: the id of the session in `welcome`.
        address: the client's network address; empty if unknown.
    """

    user: User
    session: str
    address: str


class Subscription(msgspec.Struct, frozen=True):
    """A user's request to read a topic.

    Args:
        topic: the topic.
        kind: the command: `subscribe`, or another command that reads a topic without `subscribe`.
        user: the user.
        session: the id of the connection; None for a request of HTTP.
    """

    topic: str
    kind: ReadKind | str
    user: User
    session: str | None


class Publication:
    """A user's request to write to a topic.

    Attributes:
        topic: the topic.
        kind: the command: `publish`, `signal`, `edit`, `append`, `delete` or `react`.
        user: the user.
        session: the id of the connection; None for a request of HTTP.
        seq: the seq of the message to change; None for `publish` and `signal`.
        epoch: the epoch of `seq`, if the command names an epoch.
        key: the idempotency key, if the command has a key.
        state: the `state` of the command.
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
        """The data: the text of an `append`, the emoji of a `react`, None for `delete`.

        The server publishes the value at the hook's return. The hook may change or replace the
        value.
        """
        if self._value is msgspec.UNSET:
            self._value = self._load()
        return self._value

    @data.setter
    def data(self, value: Any) -> None:
        self._value = value

    def take(self) -> Any:
        """Return the data in its present state, or `UNSET` if no hook has read or set the data."""
        return self._value


class StoredEvent:
    """A stored event, as `on_event` sees it.

    Attributes:
        topic: the topic.
        kind: `message`, `edited`, `appended`, `deleted` or `reaction`.
        seq: the event's place in the topic's order.
        epoch: the epoch of `seq`.
        at: milliseconds since 1970.
        user: the author of the event.
        target: the seq of the changed message; None for a message.
        state: the `state` of the command.
        remove: True if the event removes a reaction.
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
        """The stored data: the text of an append, the emoji of a reaction."""
        if self._value is msgspec.UNSET:
            self._value = self._load()
        return self._value


class Call(msgspec.Struct, frozen=True):
    """A call of one of the application's methods.

    Args:
        method: the name of the method.
        data: the data of the command, any JSON value.
        user: the caller.
        session: the id of the connection; None for a request of HTTP.
    """

    method: str
    data: Any
    user: User
    session: str | None
