"""Fakes of the partners of a session, a hub and a connection; all fakes record their calls."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from chat_server.changes import Change, ChangeResult, Outcome
from chat_server.events import READ_BYTES, Draft, Event, HistoryPage, Kind, Position, PublishResult
from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.codecs import JSON, Codec
from chat_server.protocol.commands import Command
from chat_server.protocol.effects import Pending
from chat_server.protocol.errors import ChatError, Unavailable
from chat_server.protocol.messages import Ok, ServerMessage
from chat_server.realtime.ports import BrokerHealth, Listener

from .fake_transport import as_client

NO_JSON = (b"no JSON", b'{"data":"\xff"}', b'{"data":"\\ud800"}', b"[" * 9_999)
"""Payloads that another program may have written in place of ours."""


class RecordingEffects:
    """Records the effects of a session, in order; `execute` leaves commands undone without
    `carry_out`.

    Args:
        codec: the client's codec.
    """

    def __init__(self, codec: Codec = JSON) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.sent: list[dict[str, Any]] = []
        self.executed: list[tuple[Pending, Command]] = []
        self.carry_out: Callable[[Pending, Command], None] | None = None
        self.codec = codec

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def send(self, message: ServerMessage) -> None:
        self._sent(self.codec.encode(message))

    def _sent(self, payload: bytes) -> None:
        self.sent.append(as_client(self.codec, payload))
        self.calls.append(("send", self.sent[-1]))

    def answer(self, id: int, ok: Ok) -> None:
        self._sent(self.codec.encode_ok(id, ok))

    def execute(self, pending: Pending, command: Command) -> None:
        self.calls.append(("execute", command))
        self.executed.append((pending, command))
        if self.carry_out is not None:
            self.carry_out(pending, command)

    def ping(self) -> None:
        self.calls.append(("ping",))

    def pause(self) -> None:
        self.calls.append(("pause",))

    def resume(self) -> None:
        self.calls.append(("resume",))

    def stop_reading(self) -> None:
        self.calls.append(("stop_reading",))

    def disconnect(self, code: CloseCode, reason: str) -> None:
        self.calls.append(("disconnect", code, reason))


class Gate:
    """Holds calls until a test releases them."""

    def __init__(self) -> None:
        self.shut = False
        self.waiting: list[Future[None]] = []

    async def __call__(self) -> None:
        if self.shut:
            future: Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future

    def release(self, error: Exception | None = None) -> None:
        """Let all waiting calls continue, or fail with `error`; later calls wait again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def open(self) -> None:
        """Let all calls continue, including later ones."""
        self.shut = False
        self.release()


class StoredTopic:
    """The events of one topic in the fake store."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.seq = self.epoch_start = 0
        self.events: list[Event] = []


class FakeBroker:
    """A store that a test controls.

    `history` computes its answer at the call and returns it when `reads` allows: a delayed read
    returns old data. Events go to `outbox`; the next loop turn delivers them, or `deliver` if
    `manual` is set. `payloads` keeps all events ever stored, by topic, epoch and seq.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.available = True
        # Topics that can be reached though not all of the store is there.
        self.reachable: set[str] = set()
        self.refusal = ""
        self.reason = ""
        self.clock_ahead: float | None = None
        self.deaf_seconds = 0.0
        self.manual = False
        self.outbox: list[Event] = []
        self.subscribed: set[str] = set()
        self.calls: list[tuple[Any, ...]] = []
        self.reads = Gate()
        self.subscribes = Gate()
        self.read_error: Exception | None = None
        self.publications: list[Future[PublishResult]] | None = None
        self.payloads: dict[tuple[str, str, int], set[bytes]] = {}
        self.raises: ChatError | None = None
        self._topics: dict[str, StoredTopic] = {}
        self._keys: dict[tuple[str, str], PublishResult] = {}
        self._listener = listener
        self._epochs = (f"epoch{number}" for number in range(1_000_000))

    def reaches(self, topic: str) -> bool:
        return self.available or topic in self.reachable

    def accepts(self, topic: str) -> bool:
        return self.reaches(topic)

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        status = self.refusal or ("ok" if self.available else "unavailable")
        latency = 0.0 if ping and self.available else None
        ahead = self.clock_ahead if ping and self.available else None
        return BrokerHealth(status, self.deaf_seconds, latency, self.reason, ahead)

    # What a test does --------------------------------------------------------------------------

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)

    def topic(self, name: str) -> StoredTopic:
        """Return the events of a topic; create the topic at its first use."""
        if name not in self._topics:
            self._topics[name] = StoredTopic(next(self._epochs))
        return self._topics[name]

    def store(
        self, topic: str, data: Any = None, *, keep: int | None = None, at: int | None = None
    ) -> Event:
        """Store a message and put its event into the outbox, as another worker would."""
        head = b'{"type":"message","topic":"%s","seq":' % topic.encode()
        return self._append(topic, Kind.MESSAGE, head, _tail(data), keep, at)

    def wipe(self, topic: str) -> None:
        """Lose a topic: its order starts anew."""
        self._topics.pop(topic, None)

    def fail_over(self, topic: str, lost: int) -> None:
        """Lose a topic's newest events, as a failover to a replica without these events does."""
        stored = self.topic(topic)
        stored.seq = max(stored.epoch_start, stored.seq - lost)
        stored.events = [event for event in stored.events if event.seq <= stored.seq]

    def forget(self, topic: str, keep: int = 0) -> None:
        """Lose a topic's history but for the newest events."""
        stored = self.topic(topic)
        stored.events = stored.events[len(stored.events) - keep :] if keep else []

    def deliver(self, *indexes: int) -> None:
        """Deliver the outbox, or the events at these indexes; the other events are lost."""
        events, self.outbox = self.outbox, []
        if indexes:
            events = [events[index] for index in indexes]
        events = [event for event in events if event.topic in self.subscribed]
        if events and self._listener is not None:
            self._listener.on_events(events)

    def go_away(self) -> None:
        """Become unavailable, and lose all undelivered events."""
        self.available = False
        self.outbox.clear()
        assert self._listener is not None
        self._listener.on_lost()

    def come_back(self) -> None:
        """Become available again."""
        self.available = True
        assert self._listener is not None
        self._listener.on_restored()

    # realtime.ports.Broker -------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        self.calls.append(("start",))
        self._listener = listener

    async def stop(self) -> None:
        self.calls.append(("stop",))

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        self.calls.append(("publish", draft))
        if self.raises is not None:
            raise self.raises
        future: Future[PublishResult] = asyncio.get_running_loop().create_future()
        if self.publications is not None:
            self.publications.append(future)
        elif not self.available:
            future.set_exception(_away())
        else:
            future.set_result(self._publish(draft))
        return future

    def change(self, change: Change) -> "Future[ChangeResult]":
        self.calls.append(("change", change))
        future: Future[ChangeResult] = asyncio.get_running_loop().create_future()
        if self.available:
            future.set_result(ChangeResult(Outcome.NOT_FOUND))
        else:
            future.set_exception(_away())
        return future

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        self.calls.append(("signal", topic, payload))
        if self.raises is not None:
            raise self.raises
        future: Future[None] = asyncio.get_running_loop().create_future()
        if self.available:
            self._emit(Event(topic, "", 0, kind, payload))
            future.set_result(None)
        else:
            future.set_exception(_away())
        return future

    def subscribe(self, topic: str) -> "Future[None]":
        self.calls.append(("subscribe", topic))
        self.subscribed.add(topic)
        future: Future[None] = asyncio.get_running_loop().create_future()
        if not self.reaches(topic):
            future.set_exception(_away())
        elif self.subscribes.shut:
            self.subscribes.waiting.append(future)
        else:
            future.set_result(None)
        return future

    def unsubscribe(self, topic: str) -> None:
        self.calls.append(("unsubscribe", topic))
        self.subscribed.discard(topic)

    async def history(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
        folded: bool = False,
    ) -> HistoryPage:
        self.calls.append(("history", topic, after, before, limit, newest))
        if not self.reaches(topic):
            raise _away()
        stored = self.topic(topic)
        events = [e for e in stored.events if after < e.seq and (before is None or e.seq < before)]
        chosen = (events[-limit:] if newest else events[:limit]) if limit else []
        while len(chosen) > 1 and sum(len(event.payload) for event in chosen) > max_bytes:
            chosen = chosen[1:] if newest else chosen[:-1]
        more = 0 < len(chosen) < len(events)
        missing = max(0, stored.seq - after - sum(after < e.seq for e in stored.events))
        page = HistoryPage(
            stored.epoch, stored.seq, chosen, more, stored.epoch_start, missing, folded
        )
        await asyncio.sleep(0)
        await self.reads()
        if self.read_error is not None:
            raise self.read_error
        return page

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        self.calls.append(("begin_epoch", topic, lost))
        if not self.reaches(topic):
            raise _away()
        stored = self.topic(topic)
        if stored.epoch == lost:
            stored.epoch, stored.epoch_start = next(self._epochs), stored.seq
            stored.events = [replace(event, epoch=stored.epoch) for event in stored.events]
            for event in stored.events:
                place = (topic, stored.epoch, event.seq)
                self.payloads.setdefault(place, set()).add(event.payload)
        await asyncio.sleep(0)
        return Position(stored.epoch, stored.epoch_start)

    async def purge(self, topic: str) -> Position:
        self.calls.append(("purge", topic))
        if not self.reaches(topic):
            raise _away()
        stored = self.topic(topic)
        stored.epoch, stored.epoch_start, stored.events = next(self._epochs), stored.seq, []
        return Position(stored.epoch, stored.epoch_start)

    # Within ----------------------------------------------------------------------------------

    def _publish(self, draft: Draft) -> PublishResult:
        once = None if draft.key is None else (draft.topic, draft.key)
        if once in self._keys:
            first = self._keys[once]
            return PublishResult(first.seq, first.epoch, first.at, duplicate=True)
        keep = draft.retention.size
        event = self._append(draft.topic, draft.kind, draft.head, draft.tail, keep)
        published = PublishResult(event.seq, event.epoch, AT)
        if once is not None:
            self._keys[once] = published
        return published

    def _append(
        self,
        name: str,
        kind: Kind,
        head: bytes,
        tail: bytes,
        keep: int | None,
        at: int | None = None,
    ) -> Event:
        stored = self.topic(name)
        stored.seq += 1
        payload = b'%s%d,"at":%d%s' % (head, stored.seq, AT if at is None else at, tail)
        event = Event(name, stored.epoch, stored.seq, kind, payload)
        stored.events.append(event)
        self.payloads.setdefault((name, stored.epoch, stored.seq), set()).add(payload)
        if keep is not None:
            self.forget(name, min(keep, len(stored.events)))
        self._emit(event)
        return event

    def _emit(self, event: Event) -> None:
        if event.topic not in self.subscribed:
            return
        if not self.manual and not self.outbox:
            asyncio.get_running_loop().call_soon(self._deliver_all)
        self.outbox.append(event)

    def _deliver_all(self) -> None:
        if not self.manual:
            self.deliver()


AT = 1_700_000_000_000


def _tail(data: Any) -> bytes:
    return b',"from":null,"data":%s}' % msgspec.json.encode(data)


def _away() -> Unavailable:
    return Unavailable("the message store cannot be reached", retry_in_ms=1000)


async def turns(count: int = 20) -> None:
    """Let the loop run for some turns, enough for all work without external waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it asks of tells nobody
            await asyncio.sleep(0.001)


def deep(levels: int, leaf: str = "") -> str:
    """Return JSON text of nested lists."""
    return "[" * levels + leaf + "]" * levels
