"""The interface of the service and connections to hooks; `hooked.HookGate` implements it."""

from collections.abc import Callable
from typing import Any, Protocol

from ..hooks.subjects import Call, Client
from ..protocol.command_table import Row
from ..protocol.commands import Command
from .actor import Actor
from .answers import Reply


class Gate(Protocol):
    """Asks and notifies an application's hooks."""

    @property
    def asks_on_connect(self) -> bool:
        """Whether the application has hooks for new connections."""
        ...

    def carry_out(
        self, actor: Actor, command: Command, row: Row, operation: Callable[[Actor, Any], Reply]
    ) -> Reply:
        """Run a checked command once the hooks allow the command.

        Raises:
            ChatError: the command is refused, or has failed at once.
        """
        ...

    async def admit(self, actor: Actor, topic: str, kind: str) -> None:
        """Ask whether an actor may read a topic, for requests other than a command about one topic.

        Raises:
            ChatError: a hook refuses.
        """
        ...

    async def ask_about(self, client: Client) -> None:
        """Ask whether a connection may be welcomed.

        Raises:
            ChatError: a hook refuses.
        """
        ...

    def disconnected(self, client: Client) -> None:
        """Notify the hooks that a welcomed connection has ended."""
        ...

    async def call(self, call: Call) -> bytes:
        """Call a method of the application, and return its result as JSON text.

        Raises:
            NotFound: the method does not exist.
            ChatError: the method raises the error, has failed or is late.
        """
        ...
