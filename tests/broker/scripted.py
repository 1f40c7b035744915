"""A broker that answers when and as a test says."""

import asyncio
from asyncio import Future

from chat_server.broker.common import busy, fail, failed, rejected, unavailable
from chat_server.events import Draft, PublishResult

from ..rig.fakes import AT, FakeBroker


class ScriptedBroker(FakeBroker):
    """Takes publications, and stores and answers them one after the other as it is told.

    Attributes:
        inbox: publications that have no answer yet.
        late: by lost connection, what was sent on it and may yet arrive.
        sent: every draft that was handed in.
        limit: as many may be in the inbox.
        unavailable: topics whose part of the store is unavailable.
    """

    def __init__(self, limit: int = 1_000) -> None:
        super().__init__()
        self.limit = limit
        self.unavailable: set[str] = set()
        self.inbox: list[tuple[Draft, Future[PublishResult]]] = []
        self.late: list[list[Draft]] = []
        self.sent: list[Draft] = []

    # What a test does ----------------------------------------------------------------------

    def answer(self, count: int = 1_000) -> None:
        """Store the first publications of the inbox, and say so."""
        answered, self.inbox = self.inbox[:count], self.inbox[count:]
        for draft, future in answered:
            future.set_result(self._publish(draft))

    def refuse(self) -> Draft:
        """Refuse the first publication of the inbox; the others stay."""
        draft, future = self.inbox.pop(0)
        fail(future, rejected())
        return draft

    def stumble(self, stored: int) -> Draft:
        """Miss the first publication, store and answer some behind it, and fail the others."""
        draft, future = self.inbox.pop(0)
        fail(future, unavailable())
        self.answer(stored)
        lost, self.inbox = self.inbox, []
        for _, future in lost:
            fail(future, unavailable())
        return draft

    def cut(self, stored: int = 0) -> None:
        """Lose the connection after some were stored: nobody learns which."""
        lost, self.inbox = self.inbox, []
        for draft, _ in lost[:stored]:
            self._publish(draft)
        if lost[stored:]:
            self.late.append([draft for draft, _ in lost[stored:]])
        for _, future in lost:
            fail(future, unavailable())

    def arrive(self, which: int, count: int) -> None:
        """Store what was sent on a connection that is lost."""
        connection = self.late[which % len(self.late)]
        for draft in connection[:count]:
            self._publish(draft)
        del connection[:count]

    def lose(self, stored: int = 0) -> None:
        """Go away."""
        self.cut(stored)
        self.go_away()

    def texts(self, topic: str) -> list[bytes]:
        """Return the tails of what is stored."""
        payloads = (event.payload for event in self.topic(topic).events)
        return [payload.partition(b',"at":%d' % AT)[2] for payload in payloads]

    # realtime.ports.Broker -----------------------------------------------------------------

    def reaches(self, topic: str) -> bool:
        return self.available and topic not in self.unavailable

    async def stop(self) -> None:
        await super().stop()
        self.available = False
        self.cut()

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        if not self.reaches(draft.topic):
            return failed(unavailable())
        if len(self.inbox) >= self.limit:
            return failed(busy())
        future: Future[PublishResult] = asyncio.get_running_loop().create_future()
        self.sent.append(draft)
        self.inbox.append((draft, future))
        return future
