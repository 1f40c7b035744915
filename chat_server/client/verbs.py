"""The client's calls for stored messages, read cursors, presence and positions."""

from typing import Any, TypeVar

from msgspec import Struct

from ..protocol import commands
from ..protocol.messages import CallOk, UnreadOk
from .changes import alteration
from .codec import ClientCodec
from .events import Changed, Cursor, Position, Present, Unread
from .position import read_position
from .publication import PublicationLog
from .reconnector import Reconnector

A = TypeVar("A", bound=Struct)


class Verbs:
    """The client's calls for the messages of a topic, except publishing.

    `edit`, `append`, `delete` and `react` treat keys, lost connections and unknown outcomes as
    `Client.publish` does. They raise the errors of `Client.publish`. They also raise
    `CommandFailed` with these codes: `not_found` if the topic's history has no such message,
    `forbidden` if the message is another user's, and `gone` if the message is deleted.

    A seq is valid in one epoch: after a loss of the store the same seq may name another message.
    With the `epoch` of the seq, such a change fails with `not_found`. The epoch comes with the
    answer that named the seq (`Published`, `Page`, `Stream`), or from the subscription's `position`
    at the time of the event. Without `epoch` the seq counts in the epoch at the time of the
    change's arrival.
    """

    def __init__(self, reconnector: Reconnector, codec: ClientCodec, log: PublicationLog) -> None:
        self._reconnector = reconnector
        self._codec = codec
        self._outcomes = log

    async def edit(
        self,
        topic: str,
        seq: int,
        data: object,
        *,
        epoch: str | None = None,
        key: str | None = None,
        wait: bool = False,
    ) -> Changed:
        """Replace the data of the message `seq`, and return the place of the edit.

        Args:
            topic: the message's topic.
            seq: the message.
            data: any value with a JSON form.
            epoch: the epoch of `seq`.
            key: an idempotency key of 1 to 64 characters.
            wait: wait for a connection instead of raising `NotConnected`; with a `key`, also resend
                the edit if the connection breaks before the answer.

        Raises:
            ClientError, TypeError, ValueError: as of `publish`.
        """
        encoded = self._codec.data(data)
        command = commands.Edit(topic=topic, seq=seq, data=encoded, epoch=epoch, key=key)
        return await self._change(command, wait=wait)

    async def append(
        self,
        topic: str,
        seq: int,
        text: str,
        *,
        state: commands.MessageState = "streaming",
        epoch: str | None = None,
        key: str | None = None,
        wait: bool = False,
    ) -> Changed:
        """Add to the text of the message `seq`; the answer has the text's `length`.

        `Client.stream` appends to a streamed message automatically.

        Args:
            topic: the message's topic.
            seq: the message.
            text: the text to add; may be empty if `state` ends the message.
            state: `complete` or `cancelled` end the message: a further append is `gone`.
            epoch: as of `edit`.
            key: as of `edit`.
            wait: as of `edit`.

        Raises:
            ClientError, ValueError: as of `publish`.
        """
        command = commands.Append(
            topic=topic, seq=seq, text=text, state=state, epoch=epoch, key=key
        )
        return await self._change(command, wait=wait)

    async def delete(
        self,
        topic: str,
        seq: int,
        *,
        epoch: str | None = None,
        key: str | None = None,
        wait: bool = False,
    ) -> Changed:
        """Delete the data of the message `seq` for good; the message stays, empty.

        Args:
            topic: the message's topic.
            seq: the message.
            epoch: as of `edit`.
            key: as of `edit`.
            wait: as of `edit`.

        Raises:
            ClientError: as of `publish`.
        """
        command = commands.Delete(topic=topic, seq=seq, epoch=epoch, key=key)
        return await self._change(command, wait=wait)

    async def react(
        self,
        topic: str,
        seq: int,
        emoji: str,
        *,
        remove: bool = False,
        epoch: str | None = None,
        key: str | None = None,
        wait: bool = False,
    ) -> Changed:
        """Add the user's reaction to the message `seq`, or remove the reaction.

        Args:
            topic: the message's topic.
            seq: the message.
            emoji: one visible character.
            remove: True removes the reaction; `not_found` without a reaction.
            epoch: as of `edit`.
            key: as of `edit`.
            wait: as of `edit`.

        Raises:
            ClientError, ValueError: as of `publish`.
        """
        command = commands.React(
            topic=topic, seq=seq, emoji=emoji, remove=remove, epoch=epoch, key=key
        )
        return await self._change(command, wait=wait)

    async def read(self, topic: str, seq: int, *, epoch: str | None = None) -> Cursor:
        """Note that the user has read `topic` up to `seq`; the cursor never moves back.

        Args:
            topic: the topic.
            seq: the last event read.
            epoch: as of `edit`.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer; reading again is harmless.
        """
        return await self._command(commands.Read(topic=topic, seq=seq, epoch=epoch), Cursor)

    async def unread(self, *topics: str, readers: bool = False) -> dict[str, Unread]:
        """Return the user's read cursor and the number of unread messages, by topic.

        Args:
            topics: 1 to 128 topics.
            readers: True also returns the users with the furthest cursors, where the server allows.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        command = commands.Unread(topics=list(topics), readers=readers)
        return (await self._command(command, UnreadOk)).topics

    async def presence(
        self, topic: str, *, after: str | None = None, limit: int = commands.DEFAULT_PRESENCE
    ) -> Present:
        """Return the users in `topic`, ordered by name.

        Args:
            topic: the topic.
            after: only users behind this user, for the next page.
            limit: users at most, 1 to 1,000.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        command = commands.Presence(topic=topic, after=after, limit=limit)
        return await self._command(command, Present)

    async def call(self, method: str, data: object = None) -> Any:
        """Call a method of the application around the server, and return the method's result.

        Args:
            method: the name of the method.
            data: any value with a JSON form.

        Raises:
            CommandFailed: the method refuses or has failed, or does not exist (`not_found`).
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer; the call may have had effects.
            TypeError, ValueError: a part of `data` has no JSON form; the message names the place.
        """
        command = commands.Call(method=method, data=self._codec.data(data))
        return (await self._command(command, CallOk)).data

    async def position(self, topic: str) -> Position:
        """Return the present position of `topic`, for a snapshot and a subscription behind it.

        The client asks the server by HTTP, next to the WebSocket: `…/api` for `…/ws`. The token
        must grant `subscribe`.

        Raises:
            CommandFailed: the server refused.
            NotConnected: the server cannot be reached.
            ConnectFailed: there is no token now.
            BadServer: the address does not have this API, for example behind a proxy that passes
                only the WebSocket.
        """
        return await read_position(self._reconnector.ask, topic)

    async def _change(self, command: commands.ChangeCommand, *, wait: bool) -> Changed:
        return await alteration(self._outcomes, command).deliver(wait=wait)

    async def _command(self, command: commands.Command, kind: type[A]) -> A:
        return await self._reconnector.connection().command(command, kind)
