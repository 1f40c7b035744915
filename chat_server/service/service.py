"""The one entry to every operation: checks, hooks, and then the operation itself."""

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
"""Takes the service, the actor and the command, after all checks of the command's row."""


class Service:
    """Runs commands for actors.

    Args:
        node: the worker's node.
        verifier: checks tokens.
        operations: the operation of each command.
        commands: the table of commands.

    Raises:
        ValueError: a command of the table has no operation.

    Attributes:
        node: the worker's node.
        verifier: checks tokens.
        commands: the table of commands.
        appends: gathers the appends to each message.
        gate: asks the application's hooks about commands; None without hooks.
        retention: returns the retention of a topic.
        charges: returns a command's charges against rates of its topic.
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
        """Return the actor of a token.

        Args:
            token: the token.
            address: the client's address.

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
        """Check that an actor may use a kind of command in a topic.

        Raises:
            BadRequest: the topic is not well-formed.
            Forbidden: the actor's token does not allow the command.
        """
        check_topic(topic)
        check_grant(self._rows[kind][0], actor, topic)
        self._check_open(actor, topic)

    def limit_requests(self, actor: Actor, size: int = 0, topic: str = "") -> None:
        """Count one request of an actor.

        Args:
            actor: the actor.
            size: the request's bytes, if known; otherwise `charge_request` counts the bytes.
            topic: the request's topic, for the log.

        Raises:
            RateLimited: the actor has sent too many messages and requests.
        """
        now = self.node.clock.monotonic()
        cost = (1 + size // BYTES_PER_COUNT) / actor.rate_factor
        self.node.message_rates.acquire(actor.user, now, cost, address=actor.peer, topic=topic)

    def charge_request(self, actor: Actor, size: int) -> None:
        """Count the bytes of a request that `limit_requests` has accepted."""
        now = self.node.clock.monotonic()
        cost = size // BYTES_PER_COUNT / actor.rate_factor
        self.node.message_rates.charge(actor.user, now, cost)

    def limit_batch(self, actor: Actor, sizes: Iterable[int]) -> tuple[int, RateLimited | None]:
        """Count the messages of a batch, up to the first that exceeds the rate.

        Args:
            actor: the actor.
            sizes: the bytes of each message.

        Returns:
            The number of accepted messages, and the refusal of the rest, if any.
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
        """Check a command and run its operation.

        Args:
            actor: the actor.
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
        """Check that no operator has closed a topic; the application may use closed topics."""
        if not isinstance(actor, Application):
            self._denials.check_topic(topic)

    async def admit(self, actor: Actor, topic: str, kind: str) -> None:
        """Ask the hooks whether an actor may read a topic; for all but commands about one topic.

        Args:
            actor: an actor with the grant.
            topic: the topic.
            kind: the kind of the request, as hooks see it.

        Raises:
            ChatError: a hook refuses.
        """
        if self.gate is not None:
            await self.gate.admit(actor, topic, kind)

    async def perform(self, actor: Actor, command: Command) -> Any:
        """Run a command like `execute`, and wait for the answer.

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
        """Check the size of `data` as JSON, which may be six times the size of its MessagePack.

        Raises:
            TooLarge: `data` has more than `limits.max_message_bytes`.
        """
        if len(data) > self._max_bytes:
            raise TooLarge(
                f"data: may have {self._max_bytes} bytes of JSON, not {len(data)}", topic=topic
            )


def check_grant(row: Row, actor: Actor, topic: str) -> None:
    """Check that an actor has the grant of a command's row.

    Raises:
        Forbidden: the actor does not have the grant.
    """
    if row.grant is not None and not (row.moderated and actor.may("moderate", topic)):
        actor.require(row.grant, topic)


def _only_one_of(names: tuple[str, str], topic: str) -> BadRequest:
    return BadRequest(f"{', '.join(names)}: only one of them may be given", topic=topic)
