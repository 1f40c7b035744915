"""What a session hands out, and what it asks of its surroundings."""

from collections.abc import Callable
from typing import Protocol

from .close_codes import CloseCode
from .messages import Auth, ClientMessage, Ping, Publish, ServerMessage, Signal


class Pending:
    """A command that has not been answered yet."""

    __slots__ = ("after", "command", "done", "id", "reply")

    def __init__(self, id: int | None, command: ClientMessage | None) -> None:
        self.id = id
        self.command = command
        self.done = False
        self.reply: ServerMessage | None = None
        self.after: Callable[[], None] | None = None

    @property
    def overlaps(self) -> bool:
        """Whether others that do may run beside it."""
        return self.command is None or isinstance(self.command, Publish | Signal | Ping)

    @property
    def may_join(self) -> bool:
        """Whether it may start while others run that overlap.

        A token must not wait for publications that are kept for a store that is away. What follows
        it waits, since the token decides about that.
        """
        return self.overlaps or isinstance(self.command, Auth)


class Effects(Protocol):
    """What a session asks for; every call returns at once and none raises."""

    def send(self, message: ServerMessage) -> None:
        """Send one message to the client."""
        ...

    def execute(self, pending: Pending, command: ClientMessage) -> None:
        """Carry out an admitted command; end it with `Session.succeed` or `fail`, exactly once."""
        ...

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        ...

    def pause(self) -> None:
        """Stop reading from the client."""
        ...

    def resume(self) -> None:
        """Read from the client again."""
        ...

    def stop_reading(self) -> None:
        """Read nothing more; `Session.hang_up` follows once what was read has been received."""
        ...

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """Close the connection once what was sent before has left."""
        ...


class RateLimit(Protocol):
    """Decides how many commands a client may send."""

    def take(self, now: float, cost: float = 1.0) -> float:
        """Take a command that counts for `cost`; return 0.0, or the seconds until it would be."""
        ...
