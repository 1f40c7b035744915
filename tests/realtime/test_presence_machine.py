"""Presence under any sequence of trouble: in the end the store and every watcher know who is there.

Three workers share one store of presence. Users come and go; workers are killed, drained and cut
off from the store; the store loses answers, carries out calls long after they have failed, loses
all that it knows, or falls back to an earlier copy. Watchers do what docs/protocol.md asks of them.
"""

import copy
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chat_server.broker.common import failed, unavailable
from chat_server.broker.memory_presence import MemoryPresence
from chat_server.clock import SystemClock
from chat_server.events import Event
from chat_server.presence import PAGE_BYTES, Attendance, PresencePage
from chat_server.realtime.drain import Drain
from chat_server.realtime.presence import TopicPresence
from chat_server.realtime.registry import Registry
from chat_server.settings import BrokerSettings, Namespace, Settings

from ..rig.fake_transport import FakeTransport
from .virtual import VirtualLoop

T = TypeVar("T")

TOPIC = "room:a"
LEASE = 30.0
GRACE = 5.0
WORKERS = 3
USERS = [f"u{number}" for number in range(6)]
SETTINGS = Settings(
    broker=BrokerSettings(presence_lease_seconds=LEASE),
    namespaces={"room": Namespace(presence=True, presence_grace_seconds=GRACE, presence_batch=4)},
)


class LoopClock(SystemClock):
    """Goes as the loop goes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()


class Way:
    """One worker's way to the store.

    Attributes:
        mode: `ok`; `away`, where calls fail; `lossy`, where answers are lost; or `late`, where
            calls fail, and are carried out when the test says so.
        late: what is yet to be carried out.
    """

    def __init__(self, store: MemoryPresence) -> None:
        self.store = store
        self.mode = "ok"
        self.late: deque[Callable[[], Any]] = deque()

    def _call(self, call: Callable[[], T]) -> Any:
        if self.mode == "ok":
            return call()
        if self.mode == "lossy":
            call()
        elif self.mode == "late":
            self.late.append(call)
        return failed(unavailable())

    def write(self, attendance: Attendance) -> Any:
        return self._call(partial(self.store.write, attendance))

    def settle(self, topic: str) -> Any:
        return self._call(partial(self.store.settle, topic))

    def end(self, topic: str, lease: str, *, dead: bool) -> Any:
        return self._call(partial(self.store.end, topic, lease, dead=dead))

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int = PAGE_BYTES
    ) -> PresencePage:
        if self.mode != "ok":
            raise unavailable()
        return await self.store.page(topic, after=after, limit=limit, max_bytes=max_bytes)


class NoHub:
    """Takes what is not about presence."""

    def on_events(self, events: Sequence[Event]) -> None: ...

    def on_lost(self, topics: Iterable[str] | None = None) -> None: ...

    def on_restored(self, topics: Iterable[str] | None = None) -> None: ...


class Worker:
    """A worker's part in presence, and the clients connected to it."""

    def __init__(self, store: MemoryPresence, name: str) -> None:
        self.way = Way(store)
        self.drain = Drain(Registry(99, 99), 10.0)
        self.presence = TopicPresence(self.way, NoHub(), SETTINGS, name, self.drain)
        self.clients: dict[FakeTransport, str] = {}
        self.watchers: dict[FakeTransport, Watcher] = {}
        self.gone = False


class Watcher:
    """What a client with `presence: true` knows."""

    def __init__(self, transport: FakeTransport, here: set[str]) -> None:
        self.transport = transport
        self.here = here
        self.read = 0
        self.ask = False

    def look(self) -> list[tuple[str, str]]:
        """Take the pushes that came, and return them one by one."""
        packets, self.read = self.transport.written[self.read :], len(self.transport.written)
        seen: list[tuple[str, str]] = []
        for packet in packets:
            push = msgspec.json.decode(packet)
            if push["type"] == "presence":
                seen += [("join", user["user"]) for user in push["joined"]]
                seen += [("leave", user["user"]) for user in push["left"]]
                self.ask = self.ask or push.get("more", False)
            else:
                seen.append((push["type"], push["user"]))
        for kind, user in seen:
            (self.here.add if kind == "join" else self.here.discard)(user)
        return seen


class PresenceMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)
        self.loop = VirtualLoop()
        self.store = MemoryPresence(
            SETTINGS.broker, LoopClock(self.loop), self.publish, running=lambda: True
        )
        self.names = 0
        self.workers = [self.new_worker() for _ in range(WORKERS)]
        self.copy: dict[str, Any] = {}
        # What may go wrong (one kind may hide what another has done), and whether something has:
        # until then nobody may seem to have left who has not.
        self.troubles: set[str] = set()
        self.trouble = False
        # When a user's last connection ended.
        self.left_at: defaultdict[str, float] = defaultdict(lambda: -1e9)

    def new_worker(self) -> Worker:
        self.names += 1
        worker = Worker(self.store, f"w{self.names}")
        self.loop.do(worker.presence.start)
        return worker

    def publish(self, event: Event) -> None:
        """Send a change to all workers, as pub/sub does: who is away misses it."""
        for worker in self.workers:
            if worker.way.mode != "away" and not worker.gone:
                self.loop.call_soon(worker.presence.on_events, [event])

    # Users -----------------------------------------------------------------------------------

    @initialize(
        watchers=st.lists(st.integers(0, WORKERS - 1), min_size=1, max_size=3),
        troubles=st.sets(st.sampled_from(["kill", "cut off", "forget"])),
    )
    def begin(self, watchers: list[int], troubles: set[str]) -> None:
        """Have somebody watch from the beginning, and say what may go wrong."""
        self.troubles = troubles
        for number in watchers:
            self.join(number, "watcher", True)
        self.join(0, "watcher", True)

    @rule(
        places=st.lists(
            st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(USERS), st.booleans()),
            min_size=1,
            max_size=6,
        )
    )
    def come(self, places: list[tuple[int, str, bool]]) -> None:
        for place in places:
            self.join(*place)

    def join(self, number: int, user: str, watches: bool) -> None:
        worker, transport = self.workers[number], FakeTransport()
        if watches and worker.way.mode != "ok":
            return  # It would be refused.
        worker.clients[transport] = user
        profile = b'{"user":"%b"}' % user.encode()
        presence = worker.presence
        self.loop.do(lambda: presence.join(TOPIC, transport, user, profile, watches=watches))
        if watches:
            self.loop.turn(5)
            page = self.page(worker)
            assert page is not None
            assert self.trouble or user in page
            worker.watchers[transport] = Watcher(transport, page)
        self.loop.do(lambda: presence.enter(TOPIC, transport))
        self.loop.turn(2)
        self.look()

    @rule(which=st.sets(st.integers(0, 11), min_size=1), turns=st.integers(0, 2))
    def leave(self, which: set[int], turns: int) -> None:
        places = [(w, t) for w in self.workers for t in w.clients if w.clients[t] != "watcher"]
        for number in which:
            if number < len(places):
                self.disconnect(*places[number])
                self.loop.turn(turns)
        self.look()

    def disconnect(self, worker: Worker, transport: FakeTransport) -> None:
        user = worker.clients.pop(transport)
        worker.watchers.pop(transport, None)
        self.loop.do(lambda: worker.presence.leave(TOPIC, transport))
        if user not in self.here():
            self.left_at[user] = self.loop.time()

    @rule(number=st.sampled_from([0, 0, 1, 2]))
    def fill(self, number: int) -> None:
        """Let the watchers of a worker read too slowly, or read again."""
        for watcher in self.workers[number].watchers.values():
            watcher.transport.writable = not watcher.transport.writable

    @rule(seconds=st.sampled_from([0.3, 1.0, GRACE + 1, LEASE / 3, LEASE * 1.5]))
    def pass_time(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            self.loop.advance(0.25)
            self.loop.turn(3)
            self.look()

    # Trouble ---------------------------------------------------------------------------------

    # The first worker has somebody who watches to the end.
    @precondition(lambda self: "kill" in self.troubles)
    @rule(number=st.integers(1, WORKERS - 1))
    def kill(self, number: int) -> None:
        self.trouble = True
        self.end(self.workers[number])
        self.workers[number] = self.new_worker()

    def end(self, worker: Worker) -> None:
        """Stop a worker as SIGKILL does."""
        worker.gone = True
        worker.way.mode = "away"
        worker.clients.clear()
        worker.watchers.clear()
        self.loop.do(worker.presence._roster._timer.cancel)  # type: ignore[union-attr]
        self.loop.do(worker.presence._timer.cancel)  # type: ignore[union-attr]

    @rule(number=st.integers(1, WORKERS - 1))
    def drain(self, number: int) -> None:
        worker = self.workers[number]
        self.trouble = self.trouble or worker.way.mode != "ok"
        worker.drain.begun = True
        for transport in list(worker.clients):
            self.disconnect(worker, transport)
        stopping = self.loop.create_task(worker.presence.stop())
        self.loop.turn(5)
        if not stopping.done():
            self.loop.advance(SETTINGS.redis.timeout_seconds)
            self.loop.turn(5)
        assert stopping.done()
        worker.gone = True
        self.workers[number] = self.new_worker()

    @precondition(lambda self: "cut off" in self.troubles)
    @rule(number=st.sampled_from([0, 0, 1, 2]), mode=st.sampled_from(["away", "lossy", "late"]))
    def cut_off(self, number: int, mode: str) -> None:
        self.trouble = True
        self.workers[number].way.mode = mode

    @precondition(lambda self: "cut off" in self.troubles)
    @rule(number=st.integers(0, WORKERS - 1))
    def come_back(self, number: int) -> None:
        way, presence = self.workers[number].way, self.workers[number].presence
        if way.mode != "ok":
            way.mode = "ok"
            self.loop.do(presence.on_restored)
            self.loop.turn(5)
            self.look()

    @precondition(lambda self: "cut off" in self.troubles)
    @rule(user=st.sampled_from(USERS), which=st.sets(st.integers(0, 11)))
    def miss(self, user: str, which: set[int]) -> None:
        """Let users come and go while the first worker hears nothing."""
        self.cut_off(0, "away")
        self.join(1, user, watches=False)
        self.leave(which, turns=1)
        self.come_back(0)

    @precondition(lambda self: "cut off" in self.troubles)
    @rule(number=st.integers(0, WORKERS - 1), count=st.integers(1, 3))
    def carry_out_late(self, number: int, count: int) -> None:
        late = self.workers[number].way.late
        for _ in range(min(count, len(late))):
            self.loop.do(late.popleft())
        self.loop.turn(2)

    @precondition(lambda self: "forget" in self.troubles)
    @rule()
    def wipe(self) -> None:
        self.trouble = True
        self.store._rooms.clear()

    @precondition(lambda self: "forget" in self.troubles)
    @rule()
    def back_up(self) -> None:
        self.copy = copy.deepcopy(self.store._rooms)

    @precondition(lambda self: "forget" in self.troubles)
    @rule()
    def fall_back(self) -> None:
        self.trouble = True
        self.store._rooms = copy.deepcopy(self.copy)

    # Checks ----------------------------------------------------------------------------------

    def here(self) -> set[str]:
        return {user for worker in self.workers for user in worker.clients.values()}

    def page(self, worker: Worker) -> set[str] | None:
        if worker.way.mode != "ok":
            return None
        work = worker.way.store.page(TOPIC, limit=99)
        page = self.loop.run_until_complete(work)
        return {member.user for member in page.members}

    def look(self) -> None:
        for worker in self.workers:
            for watcher in worker.watchers.values():
                for kind, user in watcher.look():
                    if kind == "leave" and not self.trouble:
                        away = self.loop.time() - self.left_at[user]
                        assert user not in self.here(), "a user seems to have left who is here"
                        assert away >= GRACE, "a user seems to have left at once"
                if watcher.ask and (page := self.page(worker)) is not None:
                    watcher.ask, watcher.here = False, page

    def teardown(self) -> None:
        try:
            self.heal()
            self.pass_time(LEASE / 3 + 2)
            seen = self.page(self.workers[0]) or set()
            assert self.here() <= seen, "who is here is missing for longer than a heartbeat"
            self.pass_time(LEASE * 1.5 + GRACE + 12)
            seen = self.page(self.workers[0]) or set()
            assert seen == self.here(), "who has gone is still there"
            for worker in self.workers:
                for watcher in worker.watchers.values():
                    assert watcher.here == seen, "a watcher knows something else"
            for number in range(WORKERS):
                self.drain(number)
                self.end(self.workers[number])
            assert not self.loop.faults
        finally:
            logging.disable(logging.NOTSET)
            self.loop.close()

    def heal(self) -> None:
        for number, worker in enumerate(self.workers):
            self.carry_out_late(number, len(worker.way.late))
            self.come_back(number)
            for watcher in worker.watchers.values():
                watcher.transport.writable = True


TestPresence = PresenceMachine.TestCase
TestPresence.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
