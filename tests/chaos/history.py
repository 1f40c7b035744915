"""The history of a run: all that publishers and subscribers were told."""

from msgspec import Struct, field

from chat_server.events import Position


class Ack(Struct, frozen=True):
    """A publication that the server acknowledged.

    Args:
        payload: names it; no two publications bear the same.
        duplicate: the server had stored it before, and says so.
    """

    publisher: str
    topic: str
    epoch: str
    seq: int
    payload: str
    duplicate: bool = False


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


class Received(Struct, frozen=True):
    """A stored event that came, and the payload in it."""

    seq: int
    payload: str


class GapReceived(Struct, frozen=True):
    """A `gap` that came."""

    epoch: str
    after: int
    before: int
    reason: str


Entry = Subscribed | Received | GapReceived


class Observations(Struct, frozen=True):
    """All that one subscriber learned of one topic, in the order it did."""

    subscriber: str
    topic: str
    entries: list[Entry] = field(default_factory=list)


class Rules(Struct, frozen=True):
    """What the server was allowed to forget.

    Args:
        history: events kept of each topic.
        max_replay: events replayed at most to one that resumes.
        wipes: how often the store lost everything.
    """

    history: dict[str, int]
    max_replay: int
    wipes: int = 0


class History(Struct, frozen=True):
    """A run.

    Args:
        final: where each topic stood when all was over.
    """

    rules: Rules
    acks: list[Ack]
    observers: list[Observations]
    final: dict[str, Position]
