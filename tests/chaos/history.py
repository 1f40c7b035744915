"""The history of a run: all that publishers and subscribers were told."""

from msgspec import Struct, field

from chat_server.events import Position


class Ack(Struct, frozen=True):
    """A publication, or a change of a message, that the server acknowledged.

    Args:
        payload: names it; no two publications bear the same, but changes may.
        duplicate: the server had stored it before, and says so.
        target: the message that it changes, 0 if it is one.
        meant: the payload of the message that the change named with its epoch; empty if it named a
            seq alone.
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
        since: the position that was sent, None the first time.
    """

    epoch: str
    seq: int
    recovered: bool
    replayed: int
    since: Position | None = None
    reason: str | None = None


class Change(Struct, frozen=True):
    """What a stored event does to a message.

    Args:
        kind: `edited`, `appended`, `deleted` or `reaction`.
        target: the message.
        user: who changed it.
        name: of the data that an edit puts in.
        text: what is appended.
        length: of the whole text then, in code points.
        state: what becomes of the message that grows.
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
        """What everybody sees of it, also once its content is taken away."""
        way = "removed" if self.remove else ""
        return " ".join([self.kind, str(self.target), self.user, self.emoji, way]).rstrip()


class Received(Struct, frozen=True):
    """A stored event that came, and the payload in it.

    Args:
        change: what it does, if it is no message.
        first: the first event that it stands for, 0 if only for itself.
        deleted: for a message that came without its data, the event that has taken that away.
    """

    seq: int
    payload: str
    change: Change | None = None
    first: int = 0
    deleted: int = 0

    @property
    def start(self) -> int:
        """The seq of the first event that it stands for."""
        return self.first or self.seq


class Shown(Struct, frozen=True):
    """A message as it now is.

    Args:
        version: the last event that is part of it.
        name: of its data.
        text: what was appended to that.
        state: of one that grows.
        reactions: by emoji how many, and who.
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
    """What a publisher asked for.

    Args:
        number: rises from one operation of a publisher to the next.
        name: of the data in a publication or edit; the text in an append.
        target_epoch: the epoch that it names with `target`; empty if it names none.
        meant: as of `Ack`.
        key: whether it bears one, and so is repeated until it is answered.
        attempts: how often it was sent.
        seq: where it was stored; 0 if nothing is known of that, or it was refused.
        refused: the code of the error that ended it.
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
        """What the stored event does."""
        kind = EVENTS[self.kind]
        return Change(kind, self.target, self.publisher, emoji=self.emoji, remove=self.remove)


EVENTS = {"edit": "edited", "append": "appended", "delete": "deleted", "react": "reaction"}
"""The event that each command becomes."""


class GapReceived(Struct, frozen=True):
    """A `gap` that came."""

    epoch: str
    after: int
    before: int
    reason: str


Entry = Subscribed | Received | GapReceived | Loaded


class Observations(Struct, frozen=True):
    """All that one subscriber learned of one topic, in the order it did."""

    subscriber: str
    topic: str
    entries: list[Entry] = field(default_factory=list)


class Stored(Struct, frozen=True):
    """What history holds of a topic in the end."""

    topic: str
    position: Position
    messages: list[Shown]


class Rules(Struct, frozen=True):
    """What the server was allowed to forget.

    Args:
        history: messages kept of each topic.
        max_replay: events replayed at most to one that resumes; so many changes are kept.
        wipes: how often the store lost everything.
    """

    history: dict[str, int]
    max_replay: int
    wipes: int = 0


class History(Struct, frozen=True):
    """A run.

    Args:
        final: where each topic stood when all was over.
        stored: what history then held.
        operations: all that publishers asked for, whatever came of it.
    """

    rules: Rules
    acks: list[Ack]
    observers: list[Observations]
    final: dict[str, Position]
    stored: list[Stored] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
