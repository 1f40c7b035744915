"""Applications of the client under faults, and whether what it promised them was kept."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field

from chat_server.client import (
    Backoff,
    Client,
    ClientError,
    CommandFailed,
    Gap,
    Message,
    NotConnected,
    Position,
    Subscription,
    connect,
    publish_all,
)
from tests.rig.proxy import Proxy
from tests.rig.server import mint

TOPICS = 250
IDEMPOTENCY_SECONDS = 2.0
TOKEN_SECONDS = 4.0
SETTLE_SECONDS = 90.0
"""How long all may take to settle once the faults are over; a busy machine needs some of it."""

ENVIRON = {
    "CHAT_BROKER__IDEMPOTENCY_SECONDS": str(IDEMPOTENCY_SECONDS),
    "CHAT_GATEWAY__REFRESH_GRACE_SECONDS": "2",
    "CHAT_AUTH__LEEWAY_SECONDS": "0",
    "CHAT_LIMITS__MAX_TOPICS": str(TOPICS),
    "CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "100000",
}

Data = dict[str, object]


@dataclass
class Told:
    """What the client told an application about one message."""

    topic: str
    name: str
    outcome: str
    """`stored`, `not stored` or `unknown`."""
    seq: int = 0


@dataclass
class Record:
    """All that was told, and what was counted meanwhile."""

    told: list[Told] = field(default_factory=list)
    seen: dict[tuple[str, str], list[Message | Gap]] = field(
        default_factory=lambda: defaultdict(list)
    )
    starts: dict[tuple[str, str], Position] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class Tokens:
    """A token function that is slow, fails and hangs at times."""

    def __init__(self, user: str, seed: int) -> None:
        self._user = user
        self._rng = random.Random(f"{user} {seed}")
        self.calm = False

    async def __call__(self) -> str:
        luck = 1.0 if self.calm else self._rng.random()
        if luck < 0.1:
            raise OSError("no route to the issuer")
        if luck < 0.2:
            await asyncio.Event().wait()
        if luck < 0.5:
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        return mint(self._user, ttl_seconds=TOKEN_SECONDS)


class Site:
    """The applications, between which and the server there is a proxy that fails."""

    def __init__(self, seed: int, url: str, record: Record) -> None:
        self.record = record
        self.sources: list[Tokens] = []
        self._seed = seed
        self._url = url

    def client(self, user: str, max_held: int = 1_000) -> Client:
        """Return a client whose application has faults of its own."""
        source = Tokens(user, self._seed)
        self.sources.append(source)

        def on_state(state: object, reason: str) -> None:
            self.record.errors["on_state"] += 1
            raise ValueError("a fault of the application's")

        return connect(
            self._url,
            token=source,
            token_timeout=1.5,
            max_held=max_held,
            start_wait=60.0,
            backoff=Backoff(first=0.2, longest=1.0, patient=1.0),
            on_state=on_state,
        )


async def publish_each(site: Site, number: int, seed: int, talk: asyncio.Event) -> None:
    """Publish one message after the other, in all ways there are."""
    rng = random.Random(f"publisher {number} {seed}")
    topic, user = f"room:p{number}", f"publisher{number}"
    async with site.client(user) as chat:
        count = 0
        while talk.is_set():
            count += 1
            await asyncio.sleep(rng.uniform(0.0, 0.08))
            kind = rng.choice(["safe", "safe", "safe", "plain", "bad", "hurried", "burst"])
            names = [f"{user}-{count}-{kind}-{n}" for n in range(90 if kind == "burst" else 1)]
            if kind == "burst" and rng.random() < 0.9:
                continue
            calls = [_publish_one(site.record, chat, kind, topic, name) for name in names]
            site.record.told += await asyncio.gather(*calls)


async def _publish_one(record: Record, chat: Client, kind: str, topic: str, name: str) -> Told:
    data: Data = {"name": name}
    if kind == "bad":
        data["number"] = float("nan")
    safe = kind in ("safe", "hurried")
    try:
        async with asyncio.timeout(0.05 if kind == "hurried" else None):
            published = await chat.publish(topic, data, key=name if safe else None, wait=safe)
    except (ValueError, NotConnected) as error:
        record.errors[type(error).__name__] += 1
        return Told(topic, name, "not stored")
    except CommandFailed as error:
        record.errors[error.code] += 1
        return Told(topic, name, "not stored" if error.definite else "unknown")
    except (ClientError, TimeoutError) as error:
        record.errors[type(error).__name__] += 1
        return Told(topic, name, "unknown")
    return Told(topic, name, "stored", published.seq)


async def publish_stream(site: Site, number: int, seed: int, talk: asyncio.Event) -> None:
    """Publish with `publish_all`, which may not end before its items do."""
    rng = random.Random(f"stream {number} {seed}")
    topic, user = f"room:s{number}", f"stream{number}"
    names: list[str] = []

    async def items() -> AsyncIterator[Data]:
        while talk.is_set():
            await asyncio.sleep(rng.uniform(0.0, 0.06))
            names.append(f"{user}-{len(names)}")
            yield {"name": names[-1]}

    def on_refusal(error: CommandFailed) -> None:
        raise ValueError("a fault of the application's")

    async with site.client(user) as chat:
        places: list[int] = []
        try:
            async with aclosing(publish_all(chat, topic, items(), on_refusal=on_refusal)) as run:
                async for published in run:
                    places.append(published.seq)  # noqa: PERF401 - kept if it ends with an error
        except ClientError as error:
            site.record.errors[f"publish_all: {type(error).__name__}: {error}"] += 1
    for name, seq in zip(names, places, strict=False):
        site.record.told.append(Told(topic, name, "stored", seq))
    for name in names[len(places) :]:
        site.record.told.append(Told(topic, name, "unknown"))


async def read(
    site: Site, user: str, topics: list[str], ready: asyncio.Event, *, slow: bool
) -> None:
    """Read topics with consumers that throw, until cancelled."""
    async with AsyncExitStack() as stack:
        chat = await stack.enter_async_context(site.client(user, max_held=20 if slow else 5_000))
        rooms = [await _enter(stack, chat, topic) for topic in topics]
        for room in rooms:
            assert room.position is not None
            site.record.starts[user, room.topic] = room.position
        ready.set()
        async with asyncio.TaskGroup() as tasks:
            for room in rooms:
                tasks.create_task(_consume(site, user, room, slow=slow))


async def _enter(stack: AsyncExitStack, chat: Client, topic: str) -> Subscription:
    while True:
        try:
            return await stack.enter_async_context(chat.subscribe(topic))
        except (ClientError, CommandFailed):
            await chat.wait_online()


async def _consume(site: Site, user: str, room: Subscription, *, slow: bool) -> None:
    rng = random.Random(f"{user} {room.topic}")
    seen = site.record.seen[user, room.topic]
    while True:
        with suppress(ValueError):
            async for event in room:
                assert isinstance(event, Message | Gap)
                seen.append(event)
                if slow:
                    await asyncio.sleep(0.01)
                if rng.random() < 0.05:
                    raise ValueError("a fault of the application's")


async def nemesis(proxy: Proxy, seed: int, seconds: float) -> int:
    """Break things for so long; return how often."""
    rng = random.Random(f"nemesis {seed}")
    loop = asyncio.get_running_loop()
    ends, count = loop.time() + seconds, 0
    while loop.time() < ends:
        count += 1
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        fault = rng.choice(["cut", "lose answers", "sleep", "hold", "refuse"])
        links = proxy.pick(rng.choice([0.3, 1.0]), rng)
        if fault in ("lose answers", "sleep", "hold"):
            for link in links:
                link.down.clear()
            await asyncio.sleep(rng.uniform(0.2, 1.0))
        if fault in ("cut", "lose answers", "sleep"):
            for link in links:
                link.cut()
        if fault in ("sleep", "refuse"):
            # Longer than the server remembers keys: as a machine that slept comes back.
            with proxy.refusing():
                proxy.cut()
                await asyncio.sleep(
                    IDEMPOTENCY_SECONDS * 1.5 if fault == "sleep" else rng.uniform(0.1, 1.0)
                )
        for link in links:
            link.down.set()
    return count


# The verdict ------------------------------------------------------------------------------------


def verify(record: Record, stored: dict[str, list[Message]]) -> Iterator[str]:
    """Yield what was promised and not kept.

    Args:
        stored: all messages of each topic in the end.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for messages in stored.values():
        for message in messages:
            places[message.data["name"]].append(message.seq)
    for name, seqs in places.items():
        if len(seqs) > 1:
            yield f"{name} was stored {len(seqs)} times: {seqs}"
    yield from _verify_outcomes(record, places)
    for (user, topic), seen in record.seen.items():
        yield from _verify_reader(user, topic, record.starts[user, topic], seen, stored[topic])


def _verify_outcomes(record: Record, places: dict[str, list[int]]) -> Iterator[str]:
    last: Counter[str] = Counter()
    attempted = {told.name for told in record.told}
    for told in record.told:
        seqs = places.get(told.name, [])
        if told.outcome == "stored":
            if told.seq not in seqs:
                yield f"{told.name} was said to be stored at {told.seq}, and is at {seqs}"
            in_order = "burst" not in told.name
            if in_order and told.seq <= last[told.topic]:
                yield f"{told.name} was stored at {told.seq}, before the one before it"
            last[told.topic] = max(last[told.topic], told.seq)
        elif told.outcome == "not stored" and seqs:
            yield f"{told.name} was said not to be stored, and is at {seqs}"
    for name in places:
        if name not in attempted and not name.startswith("end-"):
            yield f"{name} was stored, and nobody heard of it"


def _verify_reader(
    user: str, topic: str, start: Position, seen: list[Message | Gap], stored: list[Message]
) -> Iterator[str]:
    by_seq = {message.seq: message for message in stored}
    here = start.seq
    for event in seen:
        if isinstance(event, Gap):
            if event.after != here:
                yield f"{user} in {topic}: a gap after {event.after}, not {here}"
            here = event.before - 1
            continue
        if event.seq != here + 1:
            yield f"{user} in {topic}: {event.seq} came after {here}"
        if event.data != by_seq[event.seq].data:
            yield f"{user} in {topic}: {event.seq} was {event.data}"
        here = event.seq
    if here != stored[-1].seq:
        yield f"{user} in {topic}: stands at {here}, not {stored[-1].seq}"
