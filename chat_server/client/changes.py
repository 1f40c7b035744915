"""Changes of messages: edits, appends, deletions and reactions, each stored once."""

from ..protocol import commands
from ..protocol.commands import ChangeCommand
from .connection import Connection
from .delivery import Delivery, Outcomes, Stopwatch
from .errors import CommandFailed
from .events import Changed, Page
from .folding import text_of


class Alteration(Delivery[Changed]):
    """A change that the server stores once, even if the client sends the command repeatedly."""

    def __init__(self, outcomes: Outcomes, command: ChangeCommand) -> None:
        super().__init__(outcomes, _name(command), command, Changed)


def alteration(outcomes: Outcomes, command: ChangeCommand) -> Alteration:
    """Return a new change, or the earlier change of this key if its outcome is unknown."""
    earlier: Alteration | None = outcomes.earlier(_name(command))
    return earlier or Alteration(outcomes, command)


def _name(command: ChangeCommand) -> tuple[str | int | None, ...] | None:
    if command.key is None:
        return None
    return command.topic, command.key, type(command).__name__, command.seq, command.epoch


class Addition(Alteration):
    """An append by the only writer of a message.

    The message's text reveals if the append is stored.

    Args:
        outcomes: records the outcome.
        command: the command, with the epoch of the message.
        before: the message's text before the append.
    """

    def __init__(self, outcomes: Outcomes, command: commands.Append, before: str) -> None:
        super().__init__(outcomes, command)
        self._append = command
        self._before = before

    async def _look(self, connection: Connection) -> Changed | None:
        """Compare the message's text with the text before the append."""
        now, sent = Stopwatch(), self._append
        command = commands.History(topic=sent.topic, after=sent.seq - 1, limit=1)
        try:
            page = await connection.command(command, Page)
        except CommandFailed as error:
            if error.transient:
                raise
            raise self.unknown(f"history cannot be read ({error})") from error
        message = page.messages[0] if page.messages else None
        if page.epoch != sent.epoch or message is None or message.seq != sent.seq:
            raise self.unknown("history no longer has the message")
        text = text_of(message.data)
        if text == self._before + sent.text and message.state == sent.state:
            seq = message.version or message.seq
            return Changed(
                sent.topic, seq, sent.seq, page.epoch, message.at, duplicate=True, length=len(text)
            )
        if text == self._before or message.deleted:
            self._first_sent = now
            return None
        raise self.unknown("others have changed the message since")
