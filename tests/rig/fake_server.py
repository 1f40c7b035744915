"""A small chat server in the test's own loop: `chat.v1` with failures on demand."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from chat_server.events import Position
from chat_server.protocol import commands, messages
from chat_server.protocol.codecs import CODECS, Codec
from chat_server.protocol.messages import Error, Message, User

LIMITS = messages.Limits(
    max_message_bytes=65_536,
    max_topics=128,
    max_pending_commands=64,
    messages_per_second=10_000.0,
    message_burst=10_000,
    idempotency_seconds=300.0,
)


class FakeTopic:
    """A topic's stored events: the messages as published, and their changes."""

    def __init__(self) -> None:
        self.epoch = "e1"
        self.seq = 0
        self.messages: list[Any] = []
        self.keys: dict[str, int] = {}

    def append(self, topic: str, data: object, user: str | None = None) -> Message:
        """Store `data` as the next message."""
        self.seq += 1
        message = Message(
            topic=topic,
            seq=self.seq,
            at=1_700_000_000_000 + self.seq,
            sender=User(user=user) if user else None,
            data=data,
        )
        self.messages.append(message)
        return message

    def restart(self, epoch: str) -> None:
        """Lose all events, and begin a new epoch."""
        self.epoch, self.seq, self.messages = epoch, 0, []


class FakeConnection:
    """One client's connection."""

    def __init__(self, websocket: ServerConnection, codec: Codec) -> None:
        self.websocket = websocket
        self.codec = codec
        self.topics: set[str] = set()
        self.token_ends: float | None = None
        self.order = asyncio.Lock()
        """Held while related messages are sent."""

    async def send(self, message: messages.ServerMessage) -> None:
        """Send one message, waiting while the client does not read."""
        await self.send_raw(self.codec.encode(message))

    async def answer(self, id: int | None, ok: messages.Ok) -> None:
        """Answer a command, unless the command has no id."""
        if id is not None:
            await self.send_raw(self.codec.encode_ok(id, ok))

    async def send_raw(self, frame: bytes) -> None:
        """Send arbitrary bytes as one message."""
        await self.websocket.send(frame, text=not self.codec.binary)


class FakeServer:
    """Listens on a free port of 127.0.0.1 while entered.

    Tests may change these attributes at any time:
        accept: returns True if a token is accepted.
        expired: number of commands refused because of an expired token.
        refusals: errors for the next commands of a type, in order.
        silent: types of commands without an answer.
        answers: fixed answers to commands of a type.
        limits: the limits in the welcome.
        status: refuses connections with this HTTP status.
        headers, body: of the refusing response.
        token_seconds: lifetime of each token since its arrival; None for ever.
        tells_expiry: True if the client learns the expiry of its token.
        user: the user of all clients.
        on_command: called with each command before its answer.
        on_get: returns status and body of the answer to a plain request for a path.
    """

    def __init__(self) -> None:
        self.topics: dict[str, FakeTopic] = {}
        self.connections: list[FakeConnection] = []
        self.tokens: list[str] = []
        self.commands: list[commands.Command] = []
        self.accept: Callable[[str], bool] = lambda token: True
        self.refusals: dict[str, deque[Error]] = {}
        self.silent: set[str] = set()
        self.answers: dict[str, messages.Ok] = {}
        self.expired = 0
        self.limits = LIMITS
        self.status: HTTPStatus | None = None
        self.headers: dict[str, str] = {}
        self.body = "no\n"
        self.token_seconds: float | None = None
        self.tells_expiry = True
        self.user = "me"
        self.on_command: Callable[[commands.Command], None] = lambda command: None
        self.on_get: Callable[[str], tuple[int, str]] = lambda path: (404, "no\n")
        self.port = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The base address for clients."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, after a restart on the same port."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[Subprotocol(name) for name in CODECS],
            process_request=self._check,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            write_limit=4096,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every connection with 1012, and stop listening."""
        if self._server is not None:
            self._server.close()
            self.drop()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # What tests make it do -----------------------------------------------------------------

    def topic(self, name: str) -> FakeTopic:
        """Return the topic; create it at its first use."""
        return self.topics.setdefault(name, FakeTopic())

    async def publish(
        self, topic: str, data: object, user: str | None = "server", state: str | None = None
    ) -> Message:
        """Store a message and send it to the topic's subscribers."""
        message = self.topic(topic).append(topic, data, user)
        message.state = state
        await self.push(message)
        return message

    async def push(self, message: Any) -> None:
        """Send an event, stored or not, to the topic's subscribers."""
        for connection in list(self.connections):
            async with connection.order:
                if message.topic in connection.topics:
                    with suppress(ConnectionClosed):
                        await connection.send(message)

    def refuse(
        self, kind: str, code: str, retry_in_ms: int | None = None, message: str | None = None
    ) -> None:
        """Answer the next command of type `kind` without a refusal with an error."""
        message = message or f"{kind} was refused"
        error = Error(code=code, message=message, retry_in_ms=retry_in_ms)
        self.refusals.setdefault(kind, deque()).append(error)

    def drop(self) -> None:
        """Abort all connections without a close frame."""
        for connection in self.connections:
            connection.websocket.transport.abort()
        self.connections.clear()

    async def close(self, code: int, reason: str = "", reconnect_in_ms: int | None = None) -> None:
        """Close all connections, after a goodbye if `reconnect_in_ms` is given."""
        connections, self.connections = self.connections, []
        for connection in connections:
            if reconnect_in_ms is not None:
                await connection.send(
                    messages.Goodbye(code=code, reason=reason, reconnect_in_ms=reconnect_in_ms)
                )
            await connection.websocket.close(code, reason)

    def received(self, kind: type[commands.Command]) -> list[Any]:
        """Return the received commands of one type."""
        return [command for command in self.commands if isinstance(command, kind)]

    # What it does by itself ----------------------------------------------------------------

    async def _check(self, websocket: ServerConnection, request: Request) -> Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
        status, body = self.status, self.body
        if "Upgrade" not in request.headers:
            number, body = self.on_get(request.path)
            status = HTTPStatus(number)
        if status is not None:
            response = websocket.respond(status, body)
            for name, value in self.headers.items():
                response.headers.pop(name, None)
                response.headers[name] = value
            return response
        if not self.accept(token):
            response = websocket.respond(HTTPStatus.UNAUTHORIZED, '{"detail": "bad token"}')
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/problem+json"
            return response
        return None

    async def _serve(self, websocket: ServerConnection) -> None:
        codec = CODECS[websocket.subprotocol or "chat.v1.json"]
        connection = FakeConnection(websocket, codec)
        try:
            await connection.send(
                messages.Welcome(
                    session="s",
                    user=self.user,
                    server="fake",
                    heartbeat_seconds=25,
                    limits=self.limits,
                    expires_at=self._take_token(connection),
                )
            )
            self.connections.append(connection)
            async for frame in websocket:
                command = codec.decode(frame.encode() if isinstance(frame, str) else frame)
                self.commands.append(command)
                self.on_command(command)
                await self._answer(connection, command)
        except ConnectionClosed:
            pass
        finally:
            if connection in self.connections:
                self.connections.remove(connection)

    async def _answer(self, connection: FakeConnection, command: commands.Command) -> None:
        kind = type(command).__name__.lower()
        if kind in self.silent:
            return
        if _has_expired(connection) and kind not in ("auth", "ping", "unsubscribe"):
            self.expired += 1
            error = Error(id=command.id, code="unauthorized", message="the token has expired")
            await connection.send(error)
            return
        if self.refusals.get(kind):
            error = self.refusals[kind].popleft()
            await connection.send(msgspec.structs.replace(error, id=command.id))
            return
        if kind in self.answers:
            await connection.answer(command.id, self.answers[kind])
            return
        handler = getattr(self, f"_on_{kind}")
        await handler(connection, command)

    async def _on_ping(self, connection: FakeConnection, command: commands.Ping) -> None:
        await connection.send(messages.Pong(id=command.id or 0))

    async def _on_auth(self, connection: FakeConnection, command: commands.Auth) -> None:
        self.tokens.append(command.token)
        expires_at = self._take_token(connection)
        await connection.answer(command.id, messages.AuthOk(user="me", expires_at=expires_at))

    def _take_token(self, connection: FakeConnection) -> Any:
        """Note the expiry of a new token; return the expiry for the client."""
        connection.token_ends = None
        if self.token_seconds is None:
            return None
        connection.token_ends = time.time() + self.token_seconds
        return int(connection.token_ends) if self.tells_expiry else None

    async def _on_publish(self, connection: FakeConnection, command: commands.Publish) -> None:
        topic = self.topic(command.topic)
        first = topic.keys.get(command.key or "")
        if first is None:
            data = msgspec.json.decode(command.data)
            first = (await self.publish(command.topic, data, "me", command.state)).seq
            if command.key is not None:
                topic.keys[command.key] = first
            duplicate = False
        else:
            duplicate = True
        await connection.answer(
            command.id,
            messages.PublishOk(
                topic=command.topic,
                seq=first,
                epoch=topic.epoch,
                at=1_700_000_000_000 + first,
                duplicate=duplicate,
            ),
        )

    async def _on_edit(self, connection: FakeConnection, command: commands.Edit) -> None:
        await self._change(
            connection, command, messages.Edited, data=msgspec.json.decode(command.data)
        )

    async def _on_append(self, connection: FakeConnection, command: commands.Append) -> None:
        topic = self.topic(command.topic)
        so_far = [
            *(event.data for event in topic.messages if event.seq == command.seq),
            *(
                event.text
                for event in topic.messages
                if isinstance(event, messages.Appended) and event.target == command.seq
            ),
        ]
        first, *texts = [*so_far, command.text]
        length = len(first["text"] if isinstance(first, dict) else first) + sum(map(len, texts))
        await self._change(
            connection,
            command,
            messages.Appended,
            text=command.text,
            state=command.state,
            length=length,
        )

    async def _on_delete(self, connection: FakeConnection, command: commands.Delete) -> None:
        await self._change(connection, command, messages.Deleted)

    async def _on_react(self, connection: FakeConnection, command: commands.React) -> None:
        await self._change(
            connection, command, messages.Reaction, emoji=command.emoji, remove=command.remove
        )

    async def _change(
        self,
        connection: FakeConnection,
        command: commands.ChangeCommand,
        kind: type[messages.Changed],
        **fields: Any,
    ) -> None:
        """Store a change of a message, once for each key, and answer with its place."""
        topic = self.topic(command.topic)
        seq = topic.keys.get(command.key or "")
        duplicate = seq is not None
        if seq is None:
            seq = topic.seq = topic.seq + 1
            if command.key is not None:
                topic.keys[command.key] = seq
            event = kind(
                topic=command.topic,
                seq=seq,
                at=1_700_000_000_000 + seq,
                sender=User(user="me"),
                target=command.seq,
                **fields,
            )
            topic.messages.append(event)
            await self.push(event)
        await connection.answer(
            command.id,
            messages.ChangeOk(
                topic=command.topic,
                seq=seq,
                target=command.seq,
                epoch=topic.epoch,
                at=1_700_000_000_000 + seq,
                duplicate=duplicate,
            ),
        )

    async def _on_signal(self, connection: FakeConnection, command: commands.Signal) -> None:
        data = msgspec.json.decode(command.data)
        push = messages.SignalPush(
            topic=command.topic, sender=User(user="me"), data=data, at=1_700_000_000_000
        )
        await self.push(push)
        await connection.answer(command.id, messages.TopicOk(topic=command.topic))

    async def _on_history(self, connection: FakeConnection, command: commands.History) -> None:
        topic = self.topic(command.topic)
        stored = [event for event in topic.messages if isinstance(event, Message)]
        if command.after is not None:
            page = [message for message in stored if message.seq > command.after]
            found = page[: command.limit]
        else:
            page = [m for m in stored if command.before is None or m.seq < command.before]
            found = page[-command.limit :]
        encoded: Any = [msgspec.Raw(connection.codec.encode(message)) for message in found]
        await connection.answer(
            command.id,
            messages.HistoryOk(
                topic=command.topic,
                epoch=topic.epoch,
                messages=encoded,
                more=len(found) < len(page),
            ),
        )

    async def _on_subscribe(self, connection: FakeConnection, command: commands.Subscribe) -> None:
        async with connection.order:
            if command.topic in connection.topics:
                error = Error(id=command.id, code="already_subscribed", message="twice")
                await connection.send(error)
            else:
                await self._join(connection, command)

    async def _join(self, connection: FakeConnection, command: commands.Subscribe) -> None:
        topic = self.topic(command.topic)
        replay: list[Message] = []
        recovered, reason = False, None
        if command.since is not None:
            recovered, replay, reason = _recover(topic, command.since)
        elif command.last is not None:
            replay = topic.messages[-command.last :]
        connection.topics.add(command.topic)
        await connection.answer(
            command.id,
            messages.SubscribeOk(
                topic=command.topic,
                epoch=topic.epoch,
                seq=topic.seq,
                recovered=recovered,
                replayed=len(replay),
                reason=reason,
            ),
        )
        for message in replay:
            await connection.send(message)

    async def _on_unsubscribe(
        self, connection: FakeConnection, command: commands.Unsubscribe
    ) -> None:
        connection.topics.discard(command.topic)
        if command.id is not None:
            await connection.answer(command.id, messages.TopicOk(topic=command.topic))


def _has_expired(connection: FakeConnection) -> bool:
    return connection.token_ends is not None and time.time() >= connection.token_ends


def _recover(topic: FakeTopic, since: Position) -> tuple[bool, list[Message], str | None]:
    if since.epoch != topic.epoch or since.seq > topic.seq:
        return False, [], "epoch_changed"
    missed = [message for message in topic.messages if message.seq > since.seq]
    if len(missed) != topic.seq - since.seq:
        return False, [], "expired"
    return True, missed, None
