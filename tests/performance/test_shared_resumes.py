"""Many clients come back at once, as after the restart of a worker: what that costs the store."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.clock import SystemClock
from chat_server.events import Position, PublishResult
from chat_server.protocol.codecs import CODECS, JSON, MSGPACK
from chat_server.protocol.commands import Publish
from chat_server.realtime.ports import Broker
from chat_server.service.actor import Application
from chat_server.service.publishing import command_of
from chat_server.service.service import Service
from chat_server.sessions.connection import Connection
from chat_server.settings import GatewaySettings, LimitSettings, Namespace, Settings

from ..realtime.observer import Observer
from ..realtime.world import claims
from ..rig.fake_transport import FakeEncoder, FakeTransport
from ..rig.redis_server import RedisServer, running
from ..rig.waiting import until
from .calls import Peer
from .test_call_counts import QUIET, serving

ROOMS = [f"room:{number}" for number in range(4)]
CLIENTS, MISSED = 200, 10
MAX_REPLAY, HISTORY = 120, 150


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as started:
        yield started


@pytest.fixture(params=["memory", "redis"])
def broker(request: pytest.FixtureRequest) -> Broker:
    settings = Settings()
    if request.param == "memory":
        return MemoryBroker(settings.broker, SystemClock())
    url = request.getfixturevalue("redis").url
    prefix = secrets.token_hex(4)
    # Nobody is told that the store is away because the machine is busy.
    apart = msgspec.structs.replace(QUIET, url=url, prefix=prefix, timeout_seconds=30.0)
    return RedisBroker(apart, settings.broker)


@pytest.fixture
def reads(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The reads of the store, by topic."""
    counted: Counter[str] = Counter()
    history = broker.history

    async def counting(topic: str, **bounds: Any) -> Any:
        counted[topic] += 1
        return await history(topic, **bounds)

    monkeypatch.setattr(broker, "history", counting)
    return counted


async def published(service: Service, topic: str, count: int) -> list[PublishResult]:
    return [
        await service.perform(Application(), command_of(Publish, topic, {"n": number}))
        for number in range(count)
    ]


def since(place: PublishResult) -> dict[str, Any]:
    return {"epoch": place.epoch, "seq": place.seq}


class Client(FakeTransport):
    """A client that resumes a topic, and checks that each seq comes once and in order."""

    def __init__(self, service: Service, user: str, encoder: FakeEncoder | None = None) -> None:
        super().__init__(encoder)
        self.receiver = Connection(service, self, "127.0.0.1")
        self.receiver.start(claims(user))
        self.observer = Observer(Position("", 0))
        self.answer: dict[str, Any] | None = None
        self._taken = 1  # the welcome

    def come_back(self, topic: str, since: dict[str, Any], **fields: Any) -> None:
        self.say(type="subscribe", topic=topic, since=since, id=1, **fields)

    @property
    def position(self) -> Position:
        """Where the client stands now."""
        for message in self.messages[self._taken :]:
            if message["type"] in ("ok", "error"):
                self.answer = message
                start = message.get("seq", 0) - message.get("replayed", 0)
                self.observer = Observer(Position(message.get("epoch", ""), start))
            else:
                assert self.answer is not None, "pushed to before the answer"
                self.observer.take(message)
        self._taken = len(self.written)
        return self.observer.position


@pytest.mark.parametrize("opened", [False, True], ids=["not open", "open"])
async def test_those_who_come_back_to_a_room_share_a_read_and_the_packets(
    broker: Broker, reads: Counter[str], opened: bool
) -> None:
    encoder = FakeEncoder()
    async with serving(broker) as service:
        places = {room: await published(service, room, MISSED + 1) for room in ROOMS}
        witnesses = [Client(service, "eve") for _ in ROOMS if opened]
        for witness, room in zip(witnesses, ROOMS, strict=False):
            witness.say(type="subscribe", topic=room, id=1)
        await until(lambda: all(witness.position.seq for witness in witnesses))
        reads.clear()
        clients = [Client(service, f"user{number}", encoder) for number in range(CLIENTS)]
        for number, client in enumerate(clients):
            room = ROOMS[number % len(ROOMS)]
            client.come_back(room, since(places[room][0]))
        await until(lambda: all(client.position.seq == MISSED + 1 for client in clients))
        assert all(client.answer["recovered"] for client in clients if client.answer)
        assert reads == dict.fromkeys(ROOMS, 1)
        assert encoder.encoded == len(ROOMS) * MISSED
        for client in (*clients, *witnesses):
            client.lose()


async def test_those_who_come_one_by_one_share_the_packets(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what the first was sent, the others are read the last event only."""
    encoder, found = FakeEncoder(), 0
    history = broker.history

    async def counting(topic: str, **bounds: Any) -> Any:
        nonlocal found
        page = await history(topic, **bounds)
        found += len(page.events)
        return page

    monkeypatch.setattr(broker, "history", counting)
    async with serving(broker) as service:
        places = await published(service, "room:a", MISSED + 1)
        clients = [Client(service, f"user{number}", encoder) for number in range(10)]
        for number, client in enumerate(clients):
            client.come_back("room:a", since(places[0]))
            await until(lambda client=client: client.position.seq == MISSED + 1)  # type: ignore[misc]
            assert (found, encoder.encoded) == (MISSED + 1 + number, MISSED)
        for client in clients:
            client.lose()


async def test_those_who_missed_nothing_share_the_position(
    broker: Broker, reads: Counter[str]
) -> None:
    async with serving(broker) as service:
        places = {room: await published(service, room, 3) for room in ROOMS}
        clients: list[Client] = []
        for _ in range(2):  # The second time the topics are open.
            reads.clear()
            for number in range(CLIENTS):
                room = ROOMS[number % len(ROOMS)]
                clients.append(Client(service, f"user{len(clients)}"))
                clients[-1].come_back(room, since(places[room][-1]))
            await until(lambda: all(client.position.seq for client in clients))
            assert reads == dict.fromkeys(ROOMS, 1)
        for client in clients:
            client.lose()


@pytest.mark.parametrize("missed", [100, 1_000])
@pytest.mark.parametrize("codec", CODECS)
async def test_what_was_missed_leaves_in_few_writes(codec: str, missed: int) -> None:
    """The answer is a write, and each page of a hundred events."""
    broker = MemoryBroker(Settings().broker, SystemClock())
    async with serving(broker) as service:
        places = await published(service, "room:a", missed + 1)
        peer = Peer(service, "bob", codec)
        peer.forget()
        before = peer.socket.writes
        peer.say(type="subscribe", topic="room:a", since=since(places[0]), id=1)
        library = msgspec.msgpack if CODECS[codec].binary else msgspec.json
        await peer.hears(library.encode({"n": missed}))
        assert peer.socket.writes - before <= 1 + missed // 100
        assert peer.socket.written.count(b"data") == missed
        peer.socket.lose()


class Resumed(Client):
    """A client and what the store had when it asked.

    Args:
        missed: events behind it; None in another epoch.
        newest: the last seq.
        strict: whether it wants an error if it cannot be replayed all.
    """

    def __init__(
        self, service: Service, user: str, missed: int | None, newest: PublishResult, strict: bool
    ) -> None:
        super().__init__(service, user, FakeEncoder(JSON if strict else MSGPACK))
        self._missed, self._newest, self._strict = missed, newest.seq, strict
        here = {"epoch": newest.epoch, "seq": newest.seq - (missed or 0)}
        if missed is None:
            here["epoch"] = "another"
        self.come_back("room:a", here, strict=strict)

    def check(self) -> None:
        """Check the answer against what was stored when the client asked."""
        answer = self.answer
        if answer is None:
            assert self.lost
            return
        assert answer["seq"] >= self._newest, "older than the question"
        reason = answer.get("reason")
        missed = answer["seq"] - self._newest + (self._missed or 0)
        if self._missed is None:
            assert reason == "epoch_changed"
        elif missed > HISTORY:
            assert reason == "expired"
        elif missed > MAX_REPLAY:
            assert reason == "too_far_behind"
        else:
            assert (reason, answer["replayed"]) == (None, missed)
        assert answer["type"] == ("error" if self._strict and reason else "ok")

    def has_arrived(self, newest: PublishResult) -> bool:
        """Return whether the client has all that it was promised."""
        if not self.writable:
            self.drain()
        position = self.position
        refused = self.answer is not None and self.answer["type"] == "error"
        return self.lost or refused or position == Position(newest.epoch, newest.seq)


BEHIND = (None, 0, 0, 1, 5, 60, MAX_REPLAY - 20, MAX_REPLAY + 20, HISTORY + 50)


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_missed_or_doubled_while_others_publish(broker: Broker, seed: int) -> None:
    """Clients from everywhere in the log, some beyond help, join while it grows and is trimmed."""
    chance = random.Random(seed)
    settings = Settings(
        # Nobody answers a PING here, and a busy machine takes its time for so many clients.
        gateway=GatewaySettings(heartbeat_seconds=3_600.0),
        limits=LimitSettings(max_replay=MAX_REPLAY, slow_timeout_seconds=3_600.0),
        namespaces={"default": Namespace(history_size=HISTORY)},
    )
    clients: list[Resumed] = []
    async with serving(broker, settings) as service:
        places = await published(service, "room:a", 2 * HISTORY)

        async def publish() -> None:
            for _ in range(150):
                places.extend(await published(service, "room:a", 1))
                await asyncio.sleep(0)

        publishing = asyncio.create_task(publish())
        while not publishing.done():
            for _ in range(chance.randint(0, 8)):
                user, missed = f"user{len(clients)}", chance.choice(BEHIND)
                client = Resumed(service, user, missed, places[-1], chance.random() < 0.3)
                client.room = chance.choice([None, None, 4])
                clients.append(client)
            disturb(clients, chance)
            for _ in range(chance.randint(1, 3)):
                await asyncio.sleep(0)
        await publishing
        await until(lambda: all(client.has_arrived(places[-1]) for client in clients))
        for client in clients:
            client.check()
            client.lose()


def disturb(clients: list[Resumed], chance: random.Random) -> None:
    """Let some clients go, and some that were full read on."""
    for client in clients:
        if chance.random() < 0.01:
            client.lose()
        elif not client.writable:
            client.drain(chance.choice([None, 5]))


async def test_a_slow_client_holds_up_no_other(broker: Broker, reads: Counter[str]) -> None:
    async with serving(broker) as service:
        places = await published(service, "room:a", 301)
        slow = Client(service, "slow")
        slow.room = 3
        others = [Client(service, f"user{number}") for number in range(20)]
        for client in (slow, *others):
            client.come_back("room:a", since(places[0]))
        await until(lambda: all(client.position.seq == 301 for client in others))
        assert slow.position.seq < 301
        slow.drain()
        await until(lambda: slow.position.seq == 301)
        for client in (slow, *others):
            client.lose()
