"""The history of a run: all messages that publishers and subscribers received."""

from msgspec import Struct, field

from chat_server.events import Position


class Ack(Struct, frozen=True):
    """A publication, or a change of a message, that the server acknowledged.

    Args:
        payload: the name of the event; unique among publications, but not among changes.
        duplicate: True if the server reports an earlier copy.
        target: the changed message; 0 for a publication.
        meant: the payload of the message that the change named with its epoch; empty for a change
            without an epoch.
    """

    publisher: str
    topic: str
    epoch: str
    seq: int
    payload: str
    duplicate: bool = False
    target: int = 0
    meant: str = ""


class Subscribed(Struct, frozen=True):
    """The answer to `subscribe`.

    Args:
        since: the position in the command; None the first time.
    """

    epoch: str
    seq: int
    recovered: bool
    replayed: int
    since: Position | None = None
    reason: str | None = None


class Change(Struct, frozen=True):
    """The effect of a stored event on a message.

    Args:
        kind: `edited`, `appended`, `deleted` or `reaction`.
        target: the message.
        user: the author of the change.
        name: the name of an edit's data.
        text: the appended text.
        length: the length of the whole text after an append, in code points.
        state: the state of a streamed message after the change.
    """

    kind: str
    target: int
    user: str
    name: str = ""
    text: str = ""
    length: int = 0
    state: str = ""
    emoji: str = ""
    remove: bool = False

    @property
    def payload(self) -> str:
        """The visible part of the change, present even after its content is deleted."""
        way = "removed" if self.remove else ""
        return " ".join([self.kind, str(self.target), self.user, self.emoji, way]).rstrip()


class Received(Struct, frozen=True):
    """A received stored event, with its payload.

    Args:
        change: the change; None for a message.
        first: the first event covered by a merged event; 0 for a single event.
        deleted: for a message without its data, the event that deleted the data.
    """

    seq: int
    payload: str
    change: Change | None = None
    first: int = 0
    deleted: int = 0

    @property
    def start(self) -> int:
        """The seq of the first covered event."""
        return self.first or self.seq


class Shown(Struct, frozen=True):
    """A message with its changes applied.

    Args:
        version: the last applied event.
        name: the name of the data.
        text: the appended text.
        state: the state of a streamed message.
        reactions: by emoji the count and the users.
    """

    seq: int
    version: int
    name: str = ""
    text: str = ""
    state: str = ""
    deleted: bool = False
    reactions: dict[str, tuple[int, tuple[str, ...]]] = {}


class Loaded(Struct, frozen=True):
    """A page of history that a subscriber loaded behind a gap."""

    messages: list[Shown]


class Operation(Struct):
    """A command of a publisher.

    Args:
        number: increases with each operation of a publisher.
        name: the name of the data in a publication or edit; the text of an append.
        target_epoch: the epoch named with `target`; empty without one.
        meant: as of `Ack`.
        key: True if the command has a key, and is repeated until its answer.
        attempts: number of times the command was sent.
        seq: the seq of the stored event; 0 if unknown or refused.
        refused: the code of the error that ended the operation.
    """

    publisher: str
    number: int
    topic: str
    kind: str
    name: str = ""
    target: int = 0
    target_epoch: str = ""
    meant: str = ""
    emoji: str = ""
    remove: bool = False
    state: str = ""
    key: bool = True
    attempts: int = 0
    epoch: str = ""
    seq: int = 0
    refused: str = ""

    @property
    def change(self) -> Change:
        """The effect of the stored event."""
        kind = EVENTS[self.kind]
        return Change(kind, self.target, self.publisher, emoji=self.emoji, remove=self.remove)


EVENTS = {"edit": "edited", "append": "appended", "delete": "deleted", "react": "reaction"}
"""The event kind of each command."""


class GapReceived(Struct, frozen=True):
    """A received `gap`."""

    epoch: str
    after: int
    before: int
    reason: str


Entry = Subscribed | Received | GapReceived | Loaded


class Observations(Struct, frozen=True):
    """All records of one subscriber about one topic, in order."""

    subscriber: str
    topic: str
    entries: list[Entry] = field(default_factory=list)


class Stored(Struct, frozen=True):
    """The final history of a topic."""

    topic: str
    position: Position
    messages: list[Shown]


class Rules(Struct, frozen=True):
    """The losses that the server was allowed.

    Args:
        history: messages kept of each topic.
        max_replay: events replayed at most in a resume; the same number of changes is kept.
        wipes: number of times the store lost everything.
    """

    history: dict[str, int]
    max_replay: int
    wipes: int = 0


class History(Struct, frozen=True):
    """The records of a run.

    Args:
        final: the final position of each topic.
        stored: the final history of each topic.
        operations: all operations of publishers, with any outcome.
    """

    rules: Rules
    acks: list[Ack]
    observers: list[Observations]
    final: dict[str, Position]
    stored: list[Stored] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
