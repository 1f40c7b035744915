"""The one way to every operation: checks, hooks, and then the operation itself."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..auth.tokens import Verifier
from ..events import Retention
from ..protocol.command_table import COMMANDS, Commands, Row
from ..protocol.commands import Command, TopicCommand
from ..protocol.errors import BadRequest, TooLarge
from ..protocol.messages import Ok
from ..protocol.session import BYTES_PER_COUNT
from ..protocol.topics import check_topic
from ..realtime.node import Node
from ..settings import Settings
from .actor import Actor
from .answers import Reply
from .appends import Appends

Operation = Callable[["Service", Any, Any], Reply]
"""Takes the service, the actor and the command. All checks that its row asks for have passed."""

Hook = Callable[[Actor, Command], None]
"""Sees a command before it is carried out; a `ChatError` that it raises refuses the command."""


class Service:
    """Carries out commands for actors.

    Args:
        node: the worker's.
        verifier: checks tokens.
        operations: what carries out each command.
        commands: the table of commands.
        hooks: called, in this order, with each command that has passed its checks.

    Raises:
        ValueError: a command of the table has no operation.

    Attributes:
        node: the worker's.
        verifier: checks tokens.
        commands: the table of commands.
        appends: gathers the appends to each message.
    """

    def __init__(
        self,
        node: Node,
        verifier: Verifier,
        operations: Mapping[type[Command], Operation],
        *,
        commands: Commands = COMMANDS,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.node = node
        self.verifier = verifier
        self.commands = commands
        self._hooks = tuple(hooks)
        executed = {kind: row for kind, row in commands.items() if row.pushes is None}
        if missing := [kind.__name__ for kind in executed if kind not in operations]:
            raise ValueError(f"no operation for {', '.join(missing)}")
        self._rows: dict[type[Command], tuple[Row, Operation]] = {
            kind: (row, operations[kind]) for kind, row in executed.items()
        }
        settings = node.settings
        self._max_bytes = settings.limits.max_message_bytes
        self.appends = Appends(node.broker, settings)
        self._retentions = {name: _retention(settings, name) for name in settings.namespaces}
        self._retention = _retention(settings, "")

    async def authenticate(self, token: str) -> Actor:
        """Return the actor that a token names.

        Raises:
            Unauthorized: the token is not valid.
            Unavailable: the keys of the token's issuer are not known.
        """
        return Actor(await self.verifier.verify(token))

    def authorize(self, actor: Actor, kind: type[Command], topic: str) -> None:
        """Check that an actor may give a kind of command in a topic.

        Raises:
            BadRequest: the topic is not well-formed.
            Forbidden: the actor's token does not allow the command.
        """
        check_topic(topic)
        _check_grant(self._rows[kind][0], actor, topic)

    def limit_requests(self, actor: Actor) -> None:
        """Count one request of an actor's.

        Raises:
            RateLimited: the actor has sent too many messages and requests.
        """
        self.node.message_rates.acquire(actor.user, self.node.clock.monotonic())

    def charge_request(self, actor: Actor, size: int) -> None:
        """Count the bytes of a request that `limit_requests` has let pass."""
        now = self.node.clock.monotonic()
        self.node.message_rates.charge(actor.user, now, size // BYTES_PER_COUNT)

    def execute(self, actor: Actor, command: Command) -> Reply:
        """Check a command and carry it out.

        Raises:
            ChatError: the command is refused, or has failed at once.
        """
        row, operation = self._rows[command.__class__]
        if isinstance(command, TopicCommand):
            check_topic(command.topic)
            if (pair := row.one_of) is not None:
                one, other = pair
                if getattr(command, one) is not None and getattr(command, other) is not None:
                    raise _only_one_of(pair, command.topic)
            if row.moderated:
                _check_grant(row, actor, command.topic)
            elif row.grant is not None:
                actor.require(row.grant, command.topic)
        for hook in self._hooks:
            hook(actor, command)
        return operation(self, actor, command)

    async def perform(self, actor: Actor, command: Command) -> Any:
        """Do the same and wait for the answer.

        Raises:
            ChatError: the command is refused, or has failed.
        """
        reply = self.execute(actor, command)
        return reply if isinstance(reply, Ok) else await reply  # type: ignore[misc]

    def retention(self, topic: str) -> Retention:
        """Return how much of a topic's history is kept."""
        return self._retentions.get(topic.partition(":")[0], self._retention)

    def check_size(self, topic: str, data: bytes) -> None:
        """Check the JSON text of `data`; MessagePack of the size allowed can become six times it.

        Raises:
            TooLarge: it has more than `limits.max_message_bytes`.
        """
        if len(data) > self._max_bytes:
            raise TooLarge(
                f"data: may have {self._max_bytes} bytes of JSON, not {len(data)}", topic=topic
            )


def _check_grant(row: Row, actor: Actor, topic: str) -> None:
    if row.grant is not None and not (row.moderated and actor.may("moderate", topic)):
        actor.require(row.grant, topic)


def _retention(settings: Settings, topic: str) -> Retention:
    namespace = settings.namespace(topic)
    return Retention(
        size=namespace.history_size,
        seconds=namespace.history_seconds,
        bytes=namespace.history_bytes,
        changes=settings.limits.max_replay,
    )


def _only_one_of(names: tuple[str, str], topic: str) -> BadRequest:
    return BadRequest(f"{', '.join(names)}: only one of them may be given", topic=topic)
