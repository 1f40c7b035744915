"""A broker that answers when and as a test says."""

import asyncio
from asyncio import Future

from chat_server.broker.base import Listener, away, busy, fail, failed, refused
from chat_server.protocol.events import Draft, Published, Slice
from chat_server.protocol.messages import Position

AT = 1_700_000_000_000


class ScriptedBroker:
    """Takes publications, and stores and answers them one after the other as it is told.

    Attributes:
        inbox: publications that have no answer yet.
        late: by lost connection, what was sent on it and may yet arrive.
        stored: the drafts stored, by topic; a `seq` is the place, from 1.
        sent: every draft that was handed in.
        limit: as many may be in the inbox.
        away: topics whose part of the store is away.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self.available = True
        self.deaf = False
        self.deaf_seconds = 0.0
        self.limit = limit
        self.away: set[str] = set()
        self.inbox: list[tuple[Draft, Future[Published]]] = []
        self.late: list[list[Draft]] = []
        self.stored: dict[str, list[Draft]] = {}
        self.sent: list[Draft] = []
        self.stopped = False
        self._places: dict[tuple[str, str | None], Published] = {}
        self._listener: Listener

    # What a test does ----------------------------------------------------------------------

    def answer(self, count: int = 1_000) -> None:
        """Store the first publications of the inbox, and say so."""
        answered, self.inbox = self.inbox[:count], self.inbox[count:]
        for draft, future in answered:
            future.set_result(self._store(draft))

    def refuse(self) -> Draft:
        """Refuse the first publication of the inbox; the others stay."""
        draft, future = self.inbox.pop(0)
        fail(future, refused())
        return draft

    def stumble(self, stored: int) -> Draft:
        """Miss the first publication, store and answer some behind it, and fail the others."""
        draft, future = self.inbox.pop(0)
        fail(future, away())
        self.answer(stored)
        lost, self.inbox = self.inbox, []
        for _, future in lost:
            fail(future, away())
        return draft

    def cut(self, stored: int = 0) -> None:
        """Lose the connection after some were stored: nobody learns which."""
        lost, self.inbox = self.inbox, []
        for draft, _ in lost[:stored]:
            self._store(draft)
        if lost[stored:]:
            self.late.append([draft for draft, _ in lost[stored:]])
        for _, future in lost:
            fail(future, away())

    def arrive(self, which: int, count: int) -> None:
        """Store what was sent on a connection that is lost."""
        connection = self.late[which % len(self.late)]
        for draft in connection[:count]:
            self._store(draft)
        del connection[:count]

    def lose(self, stored: int = 0) -> None:
        """Go away."""
        self.available = False
        self.cut(stored)
        self._listener.on_lost()

    def restore(self) -> None:
        """Come back."""
        self.available = True
        self._listener.on_restored()

    def texts(self, topic: str) -> list[bytes]:
        """Return the tails of what is stored."""
        return [draft.tail for draft in self.stored.get(topic, [])]

    def _store(self, draft: Draft) -> Published:
        once = (draft.topic, draft.key)
        first = self._places.get(once)
        if first is not None:
            return Published(first.seq, first.epoch, first.at, duplicate=True)
        drafts = self.stored.setdefault(draft.topic, [])
        drafts.append(draft)
        place = Published(len(drafts), "epoch", AT)
        if draft.key is not None:
            self._places[once] = place
        return place

    # realtime.ports.Broker -----------------------------------------------------------------

    def reaches(self, topic: str) -> bool:
        return self.available and topic not in self.away

    async def start(self, listener: Listener) -> None:
        self._listener = listener

    async def stop(self) -> None:
        self.stopped = True
        self.available = False
        self.cut()

    def publish(self, draft: Draft) -> "Future[Published]":
        if not self.reaches(draft.topic):
            return failed(away())
        if len(self.inbox) >= self.limit:
            return failed(busy())
        future: Future[Published] = asyncio.get_running_loop().create_future()
        self.sent.append(draft)
        self.inbox.append((draft, future))
        return future

    def signal(self, topic: str, frame: bytes) -> "Future[None]":
        return failed(away())

    def subscribe(self, topic: str) -> "Future[None]":
        return failed(away())

    def unsubscribe(self, topic: str) -> None:
        pass

    async def read(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
    ) -> Slice:
        raise away()

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        raise away()

    async def ping(self) -> float:
        raise away()
