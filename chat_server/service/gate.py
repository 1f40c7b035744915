"""What the service and connections ask of hooks; `hooked.HookGate` answers."""

from collections.abc import Callable
from typing import Any, Protocol

from ..hooks.subjects import Call, Client
from ..protocol.command_table import Row
from ..protocol.commands import Command
from .actor import Actor
from .answers import Reply


class Gate(Protocol):
    """Asks an application's hooks, and tells them."""

    @property
    def asks_on_connect(self) -> bool:
        """Whether there are hooks to ask about connections."""
        ...

    def carry_out(
        self, actor: Actor, command: Command, row: Row, operation: Callable[[Actor, Any], Reply]
    ) -> Reply:
        """Carry out a command that has passed its checks, once the hooks let it.

        Raises:
            ChatError: the command is refused, or has failed at once.
        """
        ...

    async def admit(self, actor: Actor, topic: str, kind: str) -> None:
        """Ask whether an actor may read a topic, for what is no command about one topic.

        Raises:
            ChatError: the actor may not.
        """
        ...

    async def ask_about(self, client: Client) -> None:
        """Ask whether a connection may be welcomed.

        Raises:
            ChatError: it may not.
        """
        ...

    def disconnected(self, client: Client) -> None:
        """Tell that a connection which was welcomed has ended."""
        ...

    async def call(self, call: Call) -> bytes:
        """Return what the function of a method returns, as JSON text.

        Raises:
            NotFound: there is no such method.
            ChatError: the function raises it, has failed or is late.
        """
        ...
