"""What members are told of each other is folded and judged as the protocol has it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection, serve

from tests.chaos.members import Seat
from tests.chaos.presence import Page, Sighting, check_page, check_presence, fold
from tests.chaos.workload import Counts

from ..rig.waiting import until

TOPIC = "room:a"
CONNECTED = {TOPIC: Counter({"ann": 2, "bob": 1})}
SIGHTING = Sighting(TOPIC, "ann.0", {"ann", "bob"}, Page([("ann", 2), ("bob", 1)], 2, 3))


def _join(user: str) -> dict[str, Any]:
    return {"type": "join", "topic": TOPIC, "user": user}


def _leave(user: str) -> dict[str, Any]:
    return {"type": "leave", "topic": TOPIC, "user": user}


def _gathered(joined: list[str], left: list[str], *, more: bool = False) -> dict[str, Any]:
    came, went = ([{"user": user} for user in users] for users in (joined, left))
    head = {"type": "presence", "topic": TOPIC, "count": 0, "connections": 0}
    return {**head, "joined": came, "left": went, **({"more": True} if more else {})}


def _page(**users: int) -> dict[str, Any]:
    listed = [{"user": user, "connections": count} for user, count in users.items()]
    rest = {"count": len(users), "connections": sum(users.values()), "more": False}
    return {"topic": TOPIC, "users": listed, **rest}


def test_pushes_are_folded_in_their_order_and_may_repeat_what_is_known() -> None:
    pushes = [_join("ann"), _join("bob"), _leave("cid"), _leave("bob"), {"type": "message"}]
    assert fold({"ann", "cid"}, pushes) == {"ann"}
    assert fold({"bob"}, [_gathered(["ann"], ["bob"]), _join("bob")]) == {"ann", "bob"}


@pytest.mark.parametrize(
    ("sighting", "kinds"),
    [
        pytest.param(SIGHTING, [], id="right"),
        pytest.param(replace(SIGHTING, believed={"ann"}), ["wrong presence"], id="a join lost"),
        pytest.param(
            replace(SIGHTING, believed={"ann", "bob", "cid"}), ["wrong presence"], id="a leave lost"
        ),
        pytest.param(replace(SIGHTING, believed=None), ["wrong presence"], id="no page came"),
        pytest.param(replace(SIGHTING, listed=None), ["wrong page"], id="no answer came"),
        pytest.param(
            replace(SIGHTING, listed=Page([("ann", 1), ("bob", 1)], 2, 2)),
            ["wrong page"],
            id="a connection lost",
        ),
        pytest.param(
            replace(SIGHTING, listed=Page([("ann", 2), ("bob", 1)], 3, 3)),
            ["wrong page"],
            id="miscounted",
        ),
        pytest.param(
            replace(SIGHTING, listed=Page([("bob", 1), ("ann", 2)], 2, 3)),
            ["wrong page"],
            id="out of order",
        ),
    ],
)
def test_what_a_watcher_knows_is_who_is_connected(sighting: Sighting, kinds: list[str]) -> None:
    found = list(check_presence([SIGHTING, sighting], CONNECTED))
    assert [violation.kind for violation in found] == kinds


def test_nobody_is_listed_twice() -> None:
    page = Page([("ann", 1), ("bob", 1), ("ann", 1)], 3, 3)
    (violation,) = check_page(TOPIC, "ann.0", page)
    assert (violation.kind, violation.detail) == ("present twice", "ann is listed 2 times")
    assert list(check_page(TOPIC, "ann.0", Page([("ann", 2)], 1, 2))) == []


@asynccontextmanager
async def _seat(
    script: Callable[[dict[str, Any]], list[dict[str, Any]]], *, stays: bool = True
) -> AsyncIterator[Seat]:
    """Run a seat of ann's against a server that answers by a script; nobody moves."""

    async def speak(socket: ServerConnection) -> None:
        async for text in socket:
            library: Any = msgspec.msgpack if isinstance(text, bytes) else msgspec.json
            for message in script(library.decode(text)):
                data = library.encode(message)
                await socket.send(data if isinstance(text, bytes) else data.decode())

    protocols = [f"chat.v1.{name}" for name in ("json", "msgpack")]
    async with serve(speak, "127.0.0.1", 0, subprotocols=protocols) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        url, counts = f"ws://127.0.0.1:{port}", Counts()
        seat = Seat("ann", 0, url, "token", TOPIC, counts, stays=stays, alone=True)
        task = asyncio.create_task(seat.run(asyncio.Event()))
        try:
            yield seat
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_who_may_have_missed_something_asks_anew_and_applies_what_came_meanwhile() -> None:
    questions: list[int] = []

    def script(command: dict[str, Any]) -> list[dict[str, Any]]:
        if command["type"] == "subscribe":
            answer = {"type": "ok", "id": command["id"], "presence": _page(ann=1, bob=1)}
            return [answer, _join("cid"), _gathered([], [], more=True)]
        questions.append(command["id"])
        if len(questions) == 1:
            # Of the page that was asked for before `more`, nothing is taken but that it is one.
            return [{"type": "ok", "id": command["id"], **_page(ann=1, eve=1)}]
        pushed = [_join("dan"), _leave("bob")]
        return [*pushed, {"type": "ok", "id": command["id"], **_page(ann=1, bob=1)}]

    async with _seat(script) as seat:
        await until(lambda: seat.sighting.believed == {"ann", "dan"})
        assert seat.sighting.listed == Page([("ann", 1), ("bob", 1)], 2, 2)
        assert len(questions) == 2
        assert seat.here
        assert seat.violations == []


@pytest.mark.parametrize("late", [False, True])
async def test_who_is_here_is_not_told_to_have_left(late: bool) -> None:
    """Only of the time before the subscription may that be told, right behind its `ok`."""

    def script(command: dict[str, Any]) -> list[dict[str, Any]]:
        answer = {"type": "ok", "id": command["id"]}
        if command["type"] == "subscribe":
            earlier = [] if late else [_leave("ann"), _join("ann")]
            return [{**answer, "presence": _page(ann=1)}, *earlier]
        return [{**answer, **_page(ann=1)}, *([_leave("ann")] if late else []), _join("bob")]

    async with _seat(script) as seat:
        believed = {"bob"} if late else {"ann", "bob"}
        await until(lambda: seat.sighting.believed == believed)
        assert [each.kind for each in seat.violations] == (["sent away"] if late else [])


@pytest.mark.parametrize("stays", [False, True])
async def test_a_seat_goes_once_it_is_told_to_unless_it_stays(stays: bool) -> None:
    commands: list[str] = []

    def script(command: dict[str, Any]) -> list[dict[str, Any]]:
        commands.append(command["type"])
        answer = {"type": "ok", "id": command["id"], **_page(ann=1)}
        return [{**answer, "presence": _page(ann=1)}]

    async with _seat(script, stays=stays) as seat:
        assert not await seat.go()
        await until(lambda: seat.here)
        assert await seat.go() is not stays
        await until(lambda: seat.away is not stays)
        assert seat.here is stays
        assert not await seat.go()
        assert ("unsubscribe" in commands) is not stays
