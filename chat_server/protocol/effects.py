"""The interface between a session and its surroundings."""

from collections.abc import Callable
from typing import Protocol

from .close_codes import CloseCode
from .command_table import UNREADABLE, Row
from .commands import Command
from .messages import Ok, ServerMessage


class Pending:
    """A command that has not been answered yet.

    Args:
        id: the command's `id`, for the answer.
        command: None if the message was no command, so that the only answer is an error.
        row: the command's row in the table.

    Attributes:
        began: seconds on the session's clock when the message came.
        done: True once the command has succeeded or failed; the answer may still wait for its turn.
        reply: the answer, if the command has one.
        after: called once the answer has been sent.
    """

    __slots__ = ("after", "began", "command", "done", "id", "reply", "row")

    def __init__(self, id: int | None, command: Command | None, row: Row = UNREADABLE) -> None:
        self.id = id
        self.command = command
        self.row = row
        self.began = 0.0
        self.done = False
        self.reply: ServerMessage | Ok | None = None
        self.after: Callable[[], None] | None = None


class Effects(Protocol):
    """The actions that a session asks for; every call returns at once and none raises."""

    def send(self, message: ServerMessage) -> None:
        """Send one message to the client."""
        ...

    def answer(self, id: int, ok: Ok) -> None:
        """Send the `ok` of the command with this id."""
        ...

    def execute(self, pending: Pending, command: Command) -> None:
        """Run an admitted command; end it with `Session.succeed` or `fail`, exactly once."""
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
        """Stop reading for good; `Session.on_remote_close` follows after messages already read."""
        ...

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """Close the connection once all earlier messages have been sent."""
        ...


class RateLimit(Protocol):
    """Limits the rate of a client's commands."""

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """Acquire the right to `cost` commands; return 0.0, or the seconds to wait."""
        ...

    def note_refusal(self, topic: str) -> None:
        """Count a refusal, and log the user and the topic; empty for no topic."""
        ...
