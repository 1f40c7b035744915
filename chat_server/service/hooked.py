"""Runs hooks before commands: the application decides about a command before it runs.

A worker whose application has no hooks has no gate, and does not use this module.

Commands that write to a topic wait in the topic's queue while hooks are asked. The hooks are asked
about all commands of a queue at once. The commands then run in the order in which they came.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from ..events import Kind
from ..hooks.blocking import BlockingWatch
from ..hooks.registry import Hook, Registry
from ..hooks.runner import Counts, HookFailure, Runner
from ..hooks.subjects import Call, Client, Publication, StoredEvent, Subscription
from ..hooks.teller import Teller
from ..logs import LogThrottle
from ..protocol.command_table import Row
from ..protocol.commands import (
    Append,
    Command,
    Delete,
    Edit,
    Publish,
    React,
    Signal,
    TopicCommand,
)
from ..protocol.errors import BadRequest, ChatError, NotFound, Unavailable
from ..protocol.messages import Ok, PublishOk, TargetOk, User
from ..settings import HookSettings
from .actor import Actor, Application, Subscriber
from .answers import Answer, Joined, Reply
from .publishing import command_of, json_of
from .service import Service, check_grant

Operation = Callable[[Actor, Any], Reply]

logger = logging.getLogger(__name__)

BUSY_RETRY_MS = 250
"""`retry_in_ms` while `hooks.max_pending` commands wait for hooks."""

_CONTENT: dict[type[Command], str] = {
    Publish: "data",
    Signal: "data",
    Edit: "data",
    Append: "text",
    React: "emoji",
}
"""The field that hooks see as `data`, by command."""

_STORED: dict[type[Command], Kind] = {
    Publish: Kind.MESSAGE,
    Edit: Kind.EDITED,
    Append: Kind.APPENDED,
    Delete: Kind.DELETED,
    React: Kind.REACTION,
}


class _Entry:
    """A command in the queue of its topic."""

    __slots__ = ("actor", "command", "decided", "future", "operation", "refusal", "row", "task")

    def __init__(self, actor: Actor, command: TopicCommand, row: Row, operation: Operation):
        self.actor = actor
        self.command = command
        self.row = row
        self.operation = operation
        self.future: Future[Any] = asyncio.get_running_loop().create_future()
        self.decided = False
        self.refusal: ChatError | None = None
        self.task: Task[Any] | None = None


class HookGate:
    """Asks an application's hooks about commands.

    Args:
        service: runs the commands.
        settings: deadline and bounds.

    Attributes:
        registry: the hooks.
        counts: the outcomes of the hooks' runs.
    """

    def __init__(self, service: Service, settings: HookSettings) -> None:
        self.registry = Registry()
        self.counts: Counts = service.node.numbers.hooks
        self._service = service
        self._watch = BlockingWatch()
        # A runner of its own, so that notified hooks do not keep asked hooks from running.
        self.asking = Runner(settings, self._watch, self.counts)
        self._telling = Runner(settings, self._watch, self.counts)
        self._teller = Teller(self._telling, settings.max_pending)
        self._grace = settings.timeout_seconds
        self._max_pending = settings.max_pending
        self._pending = 0
        self._lines: dict[str, deque[_Entry]] = {}
        self._throttle = LogThrottle()

    # Commands ------------------------------------------------------------------------------

    def carry_out(self, actor: Actor, command: Command, row: Row, operation: Operation) -> Reply:
        """Run a checked command once the hooks allow the command.

        Commands of the application itself pass no hooks.

        Raises:
            ChatError: the command is refused, or has failed at once.
        """
        asked = isinstance(command, TopicCommand) and row.grant is not None
        if not asked or isinstance(actor, Application):
            return operation(actor, command)
        assert isinstance(command, TopicCommand)  # noqa: S101 - see above
        if row.grant == "publish":
            return self._write(actor, command, row, operation)
        hooks = self.registry.matching("subscribe", command.topic, actor.user)
        if not hooks:
            return operation(actor, command)
        return self._read(actor, command, row, operation, hooks)

    async def _read(
        self, actor: Actor, command: Any, row: Row, operation: Operation, hooks: Sequence[Hook]
    ) -> Ok | Joined:
        await self._admit(actor, command.topic, _kind(command), hooks)
        # The actor may have another token by now.
        check_grant(row, actor, command.topic)
        reply = operation(actor, command)
        return reply if isinstance(reply, Ok | Joined) else await reply

    async def admit(self, actor: Actor, topic: str, kind: str) -> None:
        """Ask whether an actor may read a topic, for requests other than a command about one topic.

        Raises:
            ChatError: a hook refuses.
        """
        hooks = self.registry.matching("subscribe", topic, actor.user)
        if hooks and not isinstance(actor, Application):
            await self._admit(actor, topic, kind, hooks)

    async def _admit(self, actor: Actor, topic: str, kind: str, hooks: Sequence[Hook]) -> None:
        subject = Subscription(topic, kind, user_of(actor), session_of(actor))
        self._enter(topic)
        try:
            await self.asking.ask(hooks, lambda: subject)
        except ChatError as error:
            error.topic = topic
            raise
        finally:
            self._pending -= 1

    def _enter(self, topic: str | None = None) -> None:
        """Count a command that waits for hooks; the caller decrements `_pending` afterwards.

        Raises:
            Unavailable: too many commands wait.
        """
        if self._pending >= self._max_pending:
            if self._throttle.due("full"):
                logger.warning(
                    "%d commands wait for hooks (hooks.max_pending); more are refused",
                    self._pending,
                )
            raise Unavailable(
                "too many commands wait for the application",
                topic=topic,
                retry_in_ms=BUSY_RETRY_MS,
            )
        self._pending += 1

    # Commands that write -------------------------------------------------------------------

    def _write(self, actor: Actor, command: TopicCommand, row: Row, operation: Operation) -> Reply:
        topic = command.topic
        hooks = self.registry.matching("publish", topic, actor.user)
        line = self._lines.get(topic)
        if not hooks and line is None:
            reply = operation(actor, command)
            if isinstance(reply, Answer):
                self._tell_of(reply, actor, command)
            return reply
        self._enter(topic)
        entry = _Entry(actor, command, row, operation)
        if line is None:
            line = self._lines[topic] = deque()
        line.append(entry)
        if hooks:
            entry.task = asyncio.get_running_loop().create_task(self._decide(entry, hooks))
        else:
            entry.decided = True
        return Answer(entry.future, _itself)

    async def _decide(self, entry: _Entry, hooks: Sequence[Hook]) -> None:
        try:
            make_subject = partial(_publication, entry)
            await self.asking.ask(hooks, make_subject, partial(self._settle, entry))
        except ChatError as error:
            error.topic = entry.command.topic
            # The traceback holds the entry: the cycle would be left to the garbage collector.
            error.__context__ = None
            entry.refusal = error.with_traceback(None)
        except asyncio.CancelledError:
            entry.refusal = _stopping()
        except Exception as error:
            logger.exception("the hooks of %s could not be asked", entry.command.topic)
            entry.future.set_exception(error)
        entry.decided = True
        self._advance(entry.command.topic)

    def _settle(self, entry: _Entry, publication: Publication) -> None:
        """Put the data that a hook has set into the entry's command.

        Raises:
            ChatError: the data cannot be sent.
        """
        data = publication.take()
        if data is UNSET:
            return
        command = entry.command
        name = _CONTENT.get(command.__class__)
        if name is None:
            if data is not None:
                raise BadRequest(f"data: there is none in {_kind(command)}")
            return
        fields = msgspec.structs.asdict(command)
        fields.pop(name)
        new = command_of(command.__class__, **fields, **{name: data})
        if name == "data":
            self._service.check_size(command.topic, bytes(new.data))  # type: ignore[attr-defined]
        entry.command = new

    def _advance(self, topic: str) -> None:
        """Run the decided commands at the head of a queue."""
        line = self._lines.get(topic)
        while line and line[0].decided:
            self._pending -= 1
            self._end(line.popleft())
        if line is not None and not line and self._lines.get(topic) is line:
            del self._lines[topic]

    def _end(self, entry: _Entry) -> None:
        future = entry.future
        if future.done():
            return  # the caller has given up
        if entry.refusal is not None:
            _fail(future, entry.refusal)
            return
        try:
            # The actor may have another token by now.
            check_grant(entry.row, entry.actor, entry.command.topic)
            reply = entry.operation(entry.actor, entry.command)
        except Exception as error:
            _fail(future, error)
            return
        if isinstance(reply, Answer):
            self._tell_of(reply, entry.actor, entry.command)
            _when_done(reply.future, partial(_pass_on, future, reply.make_ok))
        elif isinstance(reply, Ok | Joined):
            future.set_result(reply)
        else:
            entry.task = asyncio.get_running_loop().create_task(reply)
            entry.task.add_done_callback(partial(_pass_on, future, _itself))

    # Notifications -------------------------------------------------------------------------

    def _tell_of(self, answer: Answer, actor: Actor, command: TopicCommand) -> None:
        """Notify `on_event` of a command's event, once the event is stored."""
        kind = _STORED.get(command.__class__)
        if kind is None:
            return
        hooks = self.registry.matching("event", command.topic, actor.user)
        if hooks:
            told = partial(self._stored, answer.make_ok, user_of(actor), command, kind, hooks)
            _when_done(answer.future, told)

    def _stored(
        self,
        make_ok: Callable[[Any], Ok],
        user: User,
        command: TopicCommand,
        kind: Kind,
        hooks: Sequence[Hook],
        future: "Future[Any]",
    ) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        try:
            ok = make_ok(future.result())
        except ChatError:
            return
        if not isinstance(ok, PublishOk | TargetOk) or ok.duplicate:
            return
        event = StoredEvent(
            command.topic,
            str(kind.value),
            seq=ok.seq,
            epoch=ok.epoch,
            at=ok.at,
            user=user,
            load=partial(_load, command),
            target=getattr(command, "seq", None),
            state=getattr(command, "state", None),
            remove=getattr(command, "remove", False),
        )
        self._teller.tell(command.topic, hooks, event)

    # Connections ---------------------------------------------------------------------------

    @property
    def asks_on_connect(self) -> bool:
        """Whether the application has hooks for new connections."""
        return bool(self.registry.all("connect"))

    async def ask_about(self, client: Client) -> None:
        """Ask whether a connection may be welcomed.

        Raises:
            ChatError: a hook refuses.
        """
        self._enter()
        try:
            await self.asking.ask(self.registry.all("connect"), lambda: client)
        finally:
            self._pending -= 1

    def disconnected(self, client: Client) -> None:
        """Notify `on_disconnect` that a welcomed connection has ended."""
        hooks = self.registry.all("disconnect")
        if hooks:
            self._teller.tell(f"\n{client.session}", hooks, client)

    # Calls ---------------------------------------------------------------------------------

    async def call(self, call: Call) -> bytes:
        """Call a method of the application, and return its result as JSON text.

        Raises:
            NotFound: the method does not exist.
            ChatError: the method raises the error, has failed or is late.
        """
        hook = self.registry.method(call.method)
        if hook is None:
            raise NotFound(f"method: there is no method {call.method!r}")
        self._enter()
        try:
            result = await self.asking.run(hook, call)
            try:
                text = json_of(None, result)
                self._service.check_size(None, text)
            except ChatError as error:
                self.asking.fail(hook, f"returned what cannot be sent: {error.message}")
        except HookFailure as failure:
            raise failure.told() from None
        finally:
            self._pending -= 1
        return text

    async def stop(self) -> None:
        """Finish pending notifications within `hooks.timeout_seconds`; then end all hooks."""
        await self._teller.stop(self._grace)
        lines = self._lines.values()
        asked = [entry.task for line in lines for entry in line if entry.task is not None]
        for task in asked:
            task.cancel()
        if asked:
            await asyncio.wait(asked)
        await self.asking.stop(1.0)
        await self._telling.stop(1.0)
        self._watch.stop()


def _kind(command: Command) -> str:
    return str(command.__struct_config__.tag)


def user_of(actor: Actor) -> User:
    """Return the user behind an actor, for hooks."""
    return User(actor.user) if actor.claims is None else actor.claims.user


def session_of(actor: Actor) -> str | None:
    """Return the id of an actor's connection; None by HTTP."""
    return actor.id if isinstance(actor, Subscriber) else None


def _publication(entry: _Entry) -> Publication:
    command = entry.command
    return Publication(
        command.topic,
        _kind(command),
        user_of(entry.actor),
        session_of(entry.actor),
        load=partial(_load, command),
        seq=getattr(command, "seq", None),
        epoch=getattr(command, "epoch", None),
        key=getattr(command, "key", None),
        state=getattr(command, "state", None),
    )


def _load(command: Command) -> Any:
    value = getattr(command, _CONTENT.get(command.__class__, ""), None)
    return msgspec.json.decode(value) if isinstance(value, Raw) else value


def _itself(ok: Ok) -> Ok:
    return ok


def _when_done(future: "Future[Any]", callback: "Callable[[Future[Any]], None]") -> None:
    if future.done():
        callback(future)
    else:
        future.add_done_callback(callback)


def _pass_on(outer: "Future[Any]", make_ok: "Callable[[Any], Any]", inner: "Future[Any]") -> None:
    """Give one future's outcome to another."""
    if outer.done():
        if not inner.cancelled():
            inner.exception()  # the caller has given up
    elif inner.cancelled():
        _fail(outer, _stopping())
    elif (error := inner.exception()) is not None:
        _fail(outer, error)
    else:
        try:
            outer.set_result(make_ok(inner.result()))
        except Exception as fault:
            _fail(outer, fault)


def _fail(future: "Future[Any]", error: BaseException) -> None:
    future.set_exception(error)
    # The caller's connection may be gone; then nobody else reads the error.
    future.exception()


def _stopping() -> Unavailable:
    return Unavailable("the server stops", retry_in_ms=1_000)
