"""Explains from this worker's notes why a user did not get a message (`realtime/trail.py`)."""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from ..realtime.node import Node
from ..realtime.trail import Note
from ..sessions.connection import Connection
from ..turns import in_turns
from .questions import Step, Story, WorkerStory

MAX_STORIES: Final = 100
"""Maximum number of a user's connections in an answer."""

MAX_STEPS: Final = 50
"""Maximum number of steps shown for a connection: the last ones."""


class Asked(Struct, frozen=True):
    """A question to a worker about the fate of an event.

    Args:
        topic: the topic.
        seq: of the event.
        user: the user whose connections are reported; None for no connections.
    """

    topic: str
    seq: int
    user: str | None = None


async def explain_here(node: Node, asked: Asked) -> WorkerStory:
    """Return the fate of an event on this worker."""
    notes = list(node.trail.of_topic(asked.topic))
    heard = [n for n in notes if n.what == "heard" and n.after < asked.seq <= n.seq]
    topic = node.hub.topics.get(asked.topic)
    found = WorkerStory(
        node=node.name,
        heard_at=heard[-1].at if heard else None,
        seq=None if topic is None else topic.position.seq,
        subscribers=0 if topic is None else topic.subscriber_count,
        notes_since=node.trail.since,
        connections=[],
    )
    if asked.user is not None:
        there = _connections(node, asked.topic, asked.user)
        # Each connection costs a pass over all notes, so each has a turn of its own.
        async for some in in_turns(_clients(notes, there, asked.user)[-MAX_STORIES:], 1):
            found.connections.extend(
                _story(notes, asked.seq, *each, there=each[0] in there) for each in some
            )
    return found


def _connections(node: Node, topic: str, user: str) -> dict[str, int]:
    """Return the user's subscribed sessions, each with its client's id in the notes."""
    return {
        each.id: id(each.transport)
        for each in node.registry.of_user(user)
        if isinstance(each, Connection) and topic in each.topics
    }


def _clients(notes: list[Note], there: dict[str, int], user: str) -> list[tuple[str, int]]:
    """Return the user's sessions, present and past, each with its client's id in the notes."""
    came = {n.session: n.client for n in notes if n.what == "subscribed" and n.user == user}
    # A session without a note `subscribed` has subscribed before the notes begin: it comes first.
    earlier = {session: client for session, client in there.items() if session not in came}
    return list({**earlier, **came}.items())


def _story(notes: list[Note], seq: int, session: str, client: int, *, there: bool) -> Story:
    own = list(_life(notes, client, session))
    verdict, at = judge(own, seq, there=there)
    steps = [
        Step(at=n.at, what=n.what, after=n.after, seq=n.seq, reason=n.reason)
        for n in own
        if n.client
    ]
    return Story(session=session, verdict=verdict, at=at, steps=steps[-MAX_STEPS:])


def _life(notes: list[Note], client: int, session: str) -> Iterator[Note]:
    """Return the notes that concern a connection: its own, and those about all live ones.

    Clients are named by `id()`, so two connections may share a name, one after the other. The life
    of one ends where the next begins.
    """
    begins = [i for i, n in enumerate(notes) if n.client == client and n.session == session]
    others = [
        i for i, n in enumerate(notes) if n.client == client and n.session not in ("", session)
    ]
    begin = begins[0] if begins else 0
    end = next((i for i in others if i > begin), len(notes))
    return (note for note in notes[begin:end] if note.client in (0, client))


def judge(notes: Iterable[Note], seq: int, *, there: bool) -> tuple[str, float | None]:
    """Return the fate of an event for one connection in words, and its time.

    Args:
        notes: the notes that concern the connection, the oldest first.
        seq: of the event.
        there: whether the connection is subscribed now.
    """
    view = _View(seq)
    for note in notes:
        view.take[note.what](note)
    if view.verdict is not None:
        return view.verdict
    if view.lags:
        return f"reads too slowly: has seen no more than {view.seen}", None
    return ("has not come to this worker" if there else "not known any more"), None


class _View:
    """The state of a subscriber, replayed from its notes.

    Args:
        seq: of the event in question.

    Attributes:
        verdict: the fate of the event, and its time; None while the event is still to come.
        seen: the last seq that the subscriber has seen.
        lags: whether the subscriber gets only replays.
        take: the handler of each kind of note.
    """

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._heard = -1
        self._live = True
        self.verdict: tuple[str, float] | None = None
        self.seen = -1
        self.lags = False
        self.take = {
            "heard": self._on_heard,
            "gap": self._on_gap,
            "subscribed": self._on_subscribed,
            "lagging": self._on_lagging,
            "replayed": self._on_replayed,
            "left": self._on_left,
        }

    def _on_heard(self, note: Note) -> None:
        self._heard = note.seq
        if self._live and not self.lags:
            if max(self.seen, note.after) < self._seq <= note.seq:
                self.verdict = ("sent", note.at)
            self.seen = max(self.seen, note.seq)

    def _on_gap(self, note: Note) -> None:
        # Lagging subscribers do not get the gaps that all live subscribers are told.
        if self._live and (note.client or not self.lags):
            if note.after < self._seq <= note.seq:
                self.verdict = (f"told a gap: {note.reason}", note.at)
            self.seen = max(self.seen, note.seq)

    def _on_subscribed(self, note: Note) -> None:
        self._live, self.lags, self.seen = True, note.seq < self._heard, note.seq
        behind = note.seq >= self._seq
        self.verdict = ("subscribed behind it", note.at) if behind else None

    def _on_lagging(self, note: Note) -> None:
        self.lags, self.seen = True, note.seq

    def _on_replayed(self, note: Note) -> None:
        if self.seen < self._seq <= note.seq:
            self.verdict = ("sent in a replay", note.at)
        self.seen, self.lags = note.seq, note.seq < self._heard

    def _on_left(self, note: Note) -> None:
        self._live = False
        if self.verdict is None:
            self.verdict = ("left before it came", note.at)
