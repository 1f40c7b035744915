"""The one way to every operation: checks, hooks, and then the operation itself."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..auth.tokens import Verifier, refusal_kind
from ..protocol.command_table import COMMANDS, Commands, Row
from ..protocol.commands import Command, Publish, TopicCommand
from ..protocol.errors import BadRequest, ChatError, RateLimited, TooLarge, Unauthorized
from ..protocol.messages import Ok
from ..protocol.session import BYTES_PER_COUNT
from ..protocol.topics import check_topic
from ..realtime.node import Node
from .actor import Actor, Application
from .answers import Reply
from .appends import Appends
from .gate import Gate
from .rates import charges
from .retention import retentions

Operation = Callable[["Service", Any, Any], Reply]
"""Takes the service, the actor and the command. All checks that its row asks for have passed."""


class Service:
    """Carries out commands for actors.

    Args:
        node: the worker's.
        verifier: checks tokens.
        operations: what carries out each command.
        commands: the table of commands.

    Raises:
        ValueError: a command of the table has no operation.

    Attributes:
        node: the worker's.
        verifier: checks tokens.
        commands: the table of commands.
        appends: gathers the appends to each message.
        gate: asks the application's hooks about commands; None without hooks.
        retention: returns how much of a topic's history is kept.
        charges: returns what a command counts against rates of its topic.
    """

    def __init__(
        self,
        node: Node,
        verifier: Verifier,
        operations: Mapping[type[Command], Operation],
        *,
        commands: Commands = COMMANDS,
    ) -> None:
        self.node = node
        self.verifier = verifier
        self.commands = commands
        self.gate: Gate | None = None
        executed = {kind: row for kind, row in commands.items() if row.pushes is None}
        if missing := [kind.__name__ for kind in executed if kind not in operations]:
            raise ValueError(f"no operation for {', '.join(missing)}")
        self._rows: dict[type[Command], tuple[Row, Operation]] = {
            kind: (row, operations[kind]) for kind, row in executed.items()
        }
        settings = node.settings
        self._denials = node.denials
        self._max_bytes = settings.limits.max_message_bytes
        self.appends = Appends(node.broker, settings)
        self.retention = retentions(settings)
        self.charges = charges(settings)

    async def authenticate(self, token: str, address: str) -> Actor:
        """Return the actor that a token names.

        Args:
            token: the token.
            address: where it comes from.

        Raises:
            Unauthorized: the token is not valid.
            Unavailable: the keys of the token's issuer are not known.
        """
        try:
            actor = Actor(await self.verifier.verify(token))
        except ChatError as error:
            self.node.log_refused_token(address, error)
            if isinstance(error, Unauthorized):
                self.node.numbers.tokens_refused[refusal_kind(error)] += 1
            raise
        actor.peer = address
        return actor

    def authorize(self, actor: Actor, kind: type[Command], topic: str) -> None:
        """Check that an actor may give a kind of command in a topic.

        Raises:
            BadRequest: the topic is not well-formed.
            Forbidden: the actor's token does not allow the command.
        """
        check_topic(topic)
        check_grant(self._rows[kind][0], actor, topic)
        self._check_open(actor, topic)

    def limit_requests(self, actor: Actor, size: int = 0, topic: str = "") -> None:
        """Count one request of an actor's.

        Args:
            actor: who sends it.
            size: its bytes, if they are known; else `charge_request` counts them.
            topic: what it is about, for the log.

        Raises:
            RateLimited: the actor has sent too many messages and requests.
        """
        now = self.node.clock.monotonic()
        cost = (1 + size // BYTES_PER_COUNT) / actor.rate_factor
        self.node.message_rates.acquire(actor.user, now, cost, address=actor.peer, topic=topic)

    def charge_request(self, actor: Actor, size: int) -> None:
        """Count the bytes of a request that `limit_requests` has let pass."""
        now = self.node.clock.monotonic()
        cost = size // BYTES_PER_COUNT / actor.rate_factor
        self.node.message_rates.charge(actor.user, now, cost)

    def limit_batch(self, actor: Actor, sizes: Iterable[int]) -> tuple[int, RateLimited | None]:
        """Count messages that come together, up to the first that is too many.

        Args:
            actor: who sends them.
            sizes: the bytes of each.

        Returns:
            The number of those that pass, and the refusal of the others if there are any.
        """
        passed = 0
        rates, now = self.node.message_rates, self.node.clock.monotonic()
        try:
            for size in sizes:
                cost = (1 + size // BYTES_PER_COUNT) / actor.rate_factor
                rates.acquire(actor.user, now, cost, address=actor.peer)
                passed += 1
        except RateLimited as error:
            return passed, error
        return passed, None

    def execute(self, actor: Actor, command: Command, *, authorized: bool = False) -> Reply:
        """Check a command and carry it out.

        Args:
            actor: who gives it.
            command: a command of the table.
            authorized: True if `authorize` has allowed the actor this kind of command in its topic.

        Raises:
            ChatError: the command is refused, or has failed at once.
        """
        row, operation = self._rows[command.__class__]
        if self._denials.topics and isinstance(command, TopicCommand):
            self._check_open(actor, command.topic)
        if not authorized and isinstance(command, TopicCommand):
            check_topic(command.topic)
            if (pair := row.one_of) is not None:
                one, other = pair
                if getattr(command, one) is not None and getattr(command, other) is not None:
                    raise _only_one_of(pair, command.topic)
            if row.moderated:
                check_grant(row, actor, command.topic)
            elif row.grant is not None:
                actor.require(row.grant, command.topic)
        if self.gate is not None:
            return self.gate.carry_out(actor, command, row, partial(operation, self))
        return operation(self, actor, command)

    def _check_open(self, actor: Actor, topic: str) -> None:
        """Check that no operator has closed a topic; that does not bind the application."""
        if not isinstance(actor, Application):
            self._denials.check_topic(topic)

    async def admit(self, actor: Actor, topic: str, kind: str) -> None:
        """Ask the hooks whether an actor may read a topic, for what is no command about one topic.

        Args:
            actor: has the grant.
            topic: the topic.
            kind: what the hooks are told it is.

        Raises:
            ChatError: the actor may not.
        """
        if self.gate is not None:
            await self.gate.admit(actor, topic, kind)

    async def perform(self, actor: Actor, command: Command) -> Any:
        """Do the same and wait for the answer.

        Raises:
            ChatError: the command is refused, or has failed.
        """
        node, began, outcome = self.node, self.node.clock.monotonic(), "internal"
        try:
            reply = self.execute(actor, command)
            ok = reply if isinstance(reply, Ok) else await reply  # type: ignore[misc]
            outcome = "ok"
        except ChatError as error:
            outcome = error.code
            raise
        finally:
            node.numbers.commands[command.__class__, outcome] += 1
        if command.__class__ is Publish:
            node.numbers.publish_seconds.observe(node.clock.monotonic() - began)
        return ok

    def check_size(self, topic: str | None, data: bytes) -> None:
        """Check the JSON text of `data`; MessagePack of the size allowed can become six times it.

        Raises:
            TooLarge: it has more than `limits.max_message_bytes`.
        """
        if len(data) > self._max_bytes:
            raise TooLarge(
                f"data: may have {self._max_bytes} bytes of JSON, not {len(data)}", topic=topic
            )


def check_grant(row: Row, actor: Actor, topic: str) -> None:
    """Check that an actor has the grant that a command's row asks for.

    Raises:
        Forbidden: the actor has not.
    """
    if row.grant is not None and not (row.moderated and actor.may("moderate", topic)):
        actor.require(row.grant, topic)


def _only_one_of(names: tuple[str, str], topic: str) -> BadRequest:
    return BadRequest(f"{', '.join(names)}: only one of them may be given", topic=topic)
