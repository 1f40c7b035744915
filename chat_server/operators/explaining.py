"""Why did somebody not get a message? What this worker's notes say (`realtime/trail.py`)."""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from ..realtime.node import Node
from ..realtime.trail import Note
from ..sessions.connection import Connection
from .questions import Step, Story, WorkerStory

MAX_STORIES: Final = 100
"""Connections of a user that are told of."""

MAX_STEPS: Final = 50
"""Notes of a connection that are shown: the last ones."""


class Asked(Struct, frozen=True):
    """Asks what became of an event.

    Args:
        topic: the topic.
        seq: of the event.
        user: whose connections are told of; None for nobody's.
    """

    topic: str
    seq: int
    user: str | None = None


def explain_here(node: Node, asked: Asked) -> WorkerStory:
    """Return what this worker has done with an event."""
    notes = list(node.trail.of_topic(asked.topic))
    heard = [n for n in notes if n.what == "heard" and n.after < asked.seq <= n.seq]
    position, subscribers = node.hub.look(asked.topic)
    stories = [] if asked.user is None else list(_stories(node, notes, asked))
    return WorkerStory(
        node=node.name,
        heard_at=heard[-1].at if heard else None,
        seq=None if position is None else position.seq,
        subscribers=subscribers,
        notes_since=node.trail.since,
        connections=stories[-MAX_STORIES:],
    )


def _stories(node: Node, notes: list[Note], asked: Asked) -> Iterator[Story]:
    there = {
        each.id: id(each.transport)
        for each in node.registry.of_user(asked.user or "")
        if isinstance(each, Connection) and asked.topic in each.topics
    }
    came = {n.session: n.client for n in notes if n.what == "subscribed" and n.user == asked.user}
    # One that has subscribed before the notes begin has no such note, and was there first.
    earlier = {session: client for session, client in there.items() if session not in came}
    for session, client in {**earlier, **came}.items():
        own = list(_life(notes, client, session))
        verdict, at = judge(own, asked.seq, there=session in there)
        steps = [
            Step(at=n.at, what=n.what, after=n.after, seq=n.seq, reason=n.reason)
            for n in own
            if n.client
        ]
        yield Story(session=session, verdict=verdict, at=at, steps=steps[-MAX_STEPS:])


def _life(notes: list[Note], client: int, session: str) -> Iterator[Note]:
    """Return the notes that concern a connection: its own, and those about all live ones.

    A name of a client may have been another's before: what that one did ends where this one comes.
    """
    begins = [i for i, n in enumerate(notes) if n.client == client and n.session == session]
    others = [
        i for i, n in enumerate(notes) if n.client == client and n.session not in ("", session)
    ]
    begin = begins[0] if begins else 0
    end = next((i for i in others if i > begin), len(notes))
    return (note for note in notes[begin:end] if note.client in (0, client))


def judge(notes: Iterable[Note], seq: int, *, there: bool) -> tuple[str, float | None]:
    """Return in words what became of an event for one connection, and when.

    Args:
        notes: that concern the connection, the oldest first.
        seq: of the event.
        there: whether it is subscribed now.
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
    """A subscriber as its notes show it, one after the other.

    Args:
        seq: of the event that is asked about.

    Attributes:
        verdict: what became of the event, and when; None as long as nothing did.
        seen: the last seq that the subscriber has seen.
        lags: whether it is sent nothing but replays.
        take: what to do with a note, by what it is.
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
        # What all are told, those that lag are not.
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
