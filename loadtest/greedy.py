"""Greedy: what one user's `history` and replays at full rate cost those beside him.

He asks for a room of large messages again and again, over several connections and in a process of
his own. Others publish a little, and their answers are timed, first without him and then with him.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from .processes import Workers
from .server import Target
from .wire import LoadError

ENVIRON: Final[Mapping[str, str]] = {
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "50",
    "CHAT_LIMITS__MESSAGE_BURST": "100",
    "CHAT_LIMITS__READ_BYTES_PER_SECOND": "2097152",
    "CHAT_LIMITS__READ_BURST_BYTES": "134217728",
}
"""The limits of the server with a greedy user: the defaults."""

ROOM: Final = "room:large"
MESSAGES: Final = 150
TEXT_BYTES: Final = 60_000
FILLERS: Final = 30
"""Users that fill the room, each within the burst limit."""

BYSTANDERS: Final = 8
INTERVAL_SECONDS: Final = 0.05
OUTSTANDING: Final = 32
PATIENCE_SECONDS: Final = 90.0
FACTOR: Final = 3.0
"""Factor by which a bystander's wait may grow."""


class Round(Struct):
    """The result for bystanders with one kind of store.

    Args:
        store: the store.
        alone_p99_ms: the 99th percentile of a publication's time without the greedy user.
        beside_p99_ms: the same with the greedy user.
        published: publications of bystanders beside the greedy user.
        unavailable: refused publications among them.
        asked: answered commands of the greedy user, including refusals for the rate.
        read: bytes sent to the greedy user.
    """

    store: str
    alone_p99_ms: float
    beside_p99_ms: float
    published: int
    unavailable: int
    asked: int
    read: int

    @property
    def passed(self) -> bool:
        """True if the greedy user hardly affected bystanders."""
        return self.unavailable == 0 and self.beside_p99_ms <= FACTOR * self.alone_p99_ms


def typical_round(rounds: Sequence[Round]) -> Round:
    """Return the medians of rounds with one kind of store, and the sum of all refusals.

    The 99th percentile of a round is some eight publications. Other work on the machine may delay
    all of them at once.
    """
    return Round(
        store=rounds[0].store,
        alone_p99_ms=median(each.alone_p99_ms for each in rounds),
        beside_p99_ms=median(each.beside_p99_ms for each in rounds),
        published=int(median(each.published for each in rounds)),
        unavailable=sum(each.unavailable for each in rounds),
        asked=int(median(each.asked for each in rounds)),
        read=int(median(each.read for each in rounds)),
    )


class _Bystanders:
    """Users that publish a little."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.times_ms: list[float] = []
        self.refused = 0

    async def run(self, seconds: float) -> float:
        """Publish for `seconds`; return the 99th percentile of the answer times."""
        self.times_ms, self.refused = [], 0
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._one(number, until) for number in range(BYSTANDERS)))
        if not self.times_ms:
            raise LoadError("no publication was answered")
        return sorted(self.times_ms)[int(len(self.times_ms) * 0.99)]

    async def _one(self, number: int, until: float) -> None:
        topic = f"room:small-{number}"
        async with _connection(self._target, f"bystander-{number}", topic) as socket:
            id = 0
            while time.monotonic() < until:
                id += 1
                began = time.monotonic()
                await _send(socket, type="publish", id=id, topic=topic, data="hello")
                while (answer := await _received(socket)).get("id") != id:
                    pass
                self.times_ms.append(1_000 * (time.monotonic() - began))
                self.refused += answer["type"] != "ok"
                await asyncio.sleep(INTERVAL_SECONDS)


async def greedy(
    target: Target, store: str, *, seconds: float, connections: int, tell: Callable[[str], None]
) -> Round:
    """Time bystanders without and with a greedy user."""
    tell(f"{store}: filling a room")
    await asyncio.gather(*(_fill(target, number) for number in range(FILLERS)))
    bystanders = _Bystanders(target)
    await bystanders.run(1.0)
    tell(f"{store}: without him")
    alone = await bystanders.run(seconds)
    tell(f"{store}: with him")
    with Workers() as workers:
        pipe = workers.start(_greedy_user, (target, seconds + 1.0, connections))
        await _message(pipe)  # The greedy user begins.
        beside = await bystanders.run(seconds)
        asked, read = await _message(pipe)
    return Round(
        store=store,
        alone_p99_ms=round(alone, 2),
        beside_p99_ms=round(beside, 2),
        published=len(bystanders.times_ms),
        unavailable=bystanders.refused,
        asked=asked,
        read=read,
    )


async def _fill(target: Target, number: int) -> None:
    async with _connection(target, f"filler-{number}", ROOM) as socket:
        for id in range(1, MESSAGES // FILLERS + 1):
            await _send(socket, type="publish", id=id, topic=ROOM, data="x" * TEXT_BYTES)
            while (answer := await _received(socket)).get("id") != id:
                pass
            if answer["type"] != "ok":
                raise LoadError(f"the room could not be filled: {answer}")


async def _message(pipe: Connection) -> Any:
    if not await asyncio.to_thread(pipe.poll, PATIENCE_SECONDS):
        raise LoadError("the greedy user says nothing")
    return pipe.recv()


def _greedy_user(pipe: Connection, plan: Any) -> None:
    asyncio.run(_ask(pipe, *plan))


async def _ask(pipe: Connection, target: Target, seconds: float, connections: int) -> None:
    totals = [0, 0]
    until = time.monotonic() + seconds
    tasks = [asyncio.create_task(_ask_on(target, until, totals)) for _ in range(connections)]
    pipe.send("ready")
    # An answer may never come: the user still owes a part of the rate.
    await asyncio.wait(tasks, timeout=seconds + 1.0)
    for task in tasks:
        task.cancel()
    pipe.send(tuple(totals))


async def _ask_on(target: Target, until: float, totals: list[int]) -> None:
    commands = (
        {"type": "history", "topic": ROOM, "limit": 300},
        {"type": "subscribe", "topic": ROOM, "last": 300},
        {"type": "unsubscribe", "topic": ROOM},
    )
    while time.monotonic() < until:
        with contextlib.suppress(OSError, WebSocketException):
            async with _connection(target, "greedy", ROOM) as socket:
                id = answered = 0
                while time.monotonic() < until:
                    while id - answered < OUTSTANDING:
                        id += 1
                        await _send(socket, **commands[id % 3], id=id)
                    text = str(await socket.recv(decode=True))
                    totals[1] += len(text)
                    # Only answers have an id, in front of all long fields.
                    if '"id":' in text[:64]:
                        answered += 1
                        totals[0] += 1


def _connection(target: Target, user: str, topic: str) -> connect:
    return connect(
        f"ws://{target.host}:{target.port}/ws",
        subprotocols=[Subprotocol("chat.v1.json")],
        additional_headers={"Authorization": f"Bearer {target.mint(user, topic)}"},
        compression=None,
        close_timeout=1,
        max_size=None,
        proxy=None,
    )


async def _send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(msgspec.json.encode(message), text=True)


async def _received(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(await socket.recv())
    return message
