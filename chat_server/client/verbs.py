"""The calls of the client about messages that are stored, about who reads them, and where."""

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
    """What a client can do with the messages of a topic, besides publishing them.

    `edit`, `append`, `delete` and `react` treat keys, lost connections and unknown outcomes as
    `Client.publish` does. They raise what it raises, and `CommandFailed` with these codes too:
    `not_found` if there is no such message in the topic's history, `forbidden` if it is another
    user's, and `gone` if it is deleted.

    A seq counts in an epoch: after the store was lost it may be another message's. With the `epoch`
    in which it was seen, such a change is `not_found`. It is that of the answer which named the
    seq (`Published`, `Page`, `Stream`), or of the subscription's `position` when the event came.
    Without it the seq is one of the present epoch, whichever that is when the change arrives.
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
        """Put other data into the message `seq`, and return the place of the edit.

        Args:
            topic: the message's topic.
            seq: the message.
            data: any value that JSON can express.
            epoch: the epoch that counts `seq`.
            key: 1 to 64 characters that make a repetition harmless.
            wait: wait for a connection instead of raising `NotConnected`; with a `key`, also send
                the edit again if the connection breaks before the answer.

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

        `Client.stream` does this for a message that grows.

        Args:
            topic: the message's topic.
            seq: the message.
            text: what to add; may be empty if `state` ends the message.
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
        """Take the data of the message `seq` away for good; the message stays, empty.

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
        """Add the user's reaction to the message `seq`, or take it back.

        Args:
            topic: the message's topic.
            seq: the message.
            emoji: one visible character.
            remove: True to take the reaction back; `not_found` if there is none.
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
            seq: the last event that was read.
            epoch: as of `edit`.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer; reading again is harmless.
        """
        return await self._command(commands.Read(topic=topic, seq=seq, epoch=epoch), Cursor)

    async def unread(self, *topics: str, readers: bool = False) -> dict[str, Unread]:
        """Return what the user has not read of some topics, by topic.

        Args:
            topics: 1 to 128 topics.
            readers: True to be told also who else has read how far, where the server tells that.

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
        """Return who is in `topic`, in the order of the users' names.

        Args:
            topic: the topic.
            after: only users behind this one, for the next page.
            limit: users at most, 1 to 1,000.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        command = commands.Presence(topic=topic, after=after, limit=limit)
        return await self._command(command, Present)

    async def call(self, method: str, data: object = None) -> Any:
        """Call a method of the application around the server, and return what that returns.

        Args:
            method: its name.
            data: any value that JSON can express.

        Raises:
            CommandFailed: the method refuses or has failed, or there is none (`not_found`).
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer; the call may have had effects.
            TypeError, ValueError: part of `data` has no form in JSON; the message names the place.
        """
        command = commands.Call(method=method, data=self._codec.data(data))
        return (await self._command(command, CallOk)).data

    async def position(self, topic: str) -> Position:
        """Return where `topic` stands now, for who then loads a snapshot and subscribes behind it.

        The server is asked by HTTP, beside the WebSocket: `…/api` stands where `…/ws` stands. The
        token must grant `subscribe`.

        Raises:
            CommandFailed: the server refused.
            NotConnected: the server cannot be reached.
            ConnectFailed: there is no token now.
            BadServer: what answers has no such API, a proxy that passes the WebSocket only say.
        """
        return await read_position(self._reconnector.ask, topic)

    async def _change(self, command: commands.ChangeCommand, *, wait: bool) -> Changed:
        return await alteration(self._outcomes, command).deliver(wait=wait)

    async def _command(self, command: commands.Command, kind: type[A]) -> A:
        return await self._reconnector.connection().command(command, kind)
