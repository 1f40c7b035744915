"""Hooks that are late, fail, block, answer nonsense or call back; and very many at once."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from chat_server import errors
from chat_server.hooks import Publication, Subscription
from chat_server.hooks.runner import inert
from tests.rig.chat_client import chat
from tests.rig.server import mint
from tests.rig.waiting import until

from .conftest import GRANTS, chat_server, served
from .test_doors import ROOM, TOKEN, post, post_at_the_hot_door


async def nonsense(publication: Publication) -> object:
    return True


async def not_json(publication: Publication) -> None:
    publication.data = {"at": float("nan")}


async def too_large(publication: Publication) -> None:
    publication.data["text"] = "x" * 100_000


async def fails(publication: Publication) -> None:
    publication.data["text"] = "half done"
    raise ZeroDivisionError


async def cancels_itself(publication: Publication) -> None:
    raise asyncio.CancelledError


async def cancels_its_task(publication: Publication) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def exits(publication: Publication) -> None:
    raise SystemExit


async def never_ends(publication: Publication) -> None:
    publication.data["text"] = "half done"
    await asyncio.Event().wait()


async def cannot_be_cancelled(publication: Publication) -> None:
    while True:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            if STOPPED.is_set():
                raise


STOPPED = asyncio.Event()


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
@pytest.mark.parametrize(
    ("hook", "outcome", "code"),
    [
        (nonsense, "failed", "internal"),
        (not_json, "failed", "internal"),
        (too_large, "failed", "internal"),
        (fails, "failed", "internal"),
        (cancels_itself, "failed", "internal"),
        (cancels_its_task, "failed", "internal"),
        (exits, "failed", "internal"),
        (never_ends, "late", "unavailable"),
        (cannot_be_cancelled, "late", "unavailable"),
    ],
)
async def test_a_hook_that_does_not_do_its_work(
    hook: Callable[[Publication], Any],
    outcome: str,
    code: str,
    on_failure: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = chat_server()
    server.on_publish(
        ROOM, on_failure=on_failure, timeout_seconds=0.05 if outcome == "late" else 30
    )(hook)
    data = {"text": "as it came"}
    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        await ada.ok(type="subscribe", topic=ROOM)
        answers = [
            await ada.call(type="publish", topic=ROOM, data=data),
            await post_at_the_hot_door(running, f"/api/topics/{ROOM}/messages", {"data": data}),
        ]
        await server.publish(ROOM, "the last")
        pushes: list[Any] = []
        while not pushes or pushes[-1] != "the last":
            pushes.append((await ada.next())["data"])
        STOPPED.set()
    STOPPED.clear()
    name = f"{hook.__module__}.{hook.__qualname__}"
    assert server.hook_counts[name, outcome] == 2
    assert name in caplog.text
    if on_failure == "refuse":
        assert [answer["code"] for answer in answers] == [code, code]
        assert pushes == ["the last"]
    else:
        assert [answer["seq"] for answer in answers] == [1, 2]
        assert pushes == [data, data, "the last"]


async def test_a_hook_that_is_late_decides_nothing_later() -> None:
    server, go = chat_server(), asyncio.Event()

    @server.on_publish(ROOM, on_failure="allow", timeout_seconds=0.05)
    async def late(publication: Publication) -> None:
        try:
            await go.wait()
        except asyncio.CancelledError:
            await go.wait()
        publication.data = "late"

    @server.on_publish(ROOM)
    async def next_one(publication: Publication) -> None:
        assert publication.data == "as it came"
        go.set()
        await asyncio.sleep(0.01)

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        await ada.ok(type="subscribe", topic=ROOM)
        await ada.ok(type="publish", topic=ROOM, data="as it came")
        assert (await ada.next())["data"] == "as it came"


async def test_order_is_kept_though_hooks_overlap() -> None:
    server, running_now, most = chat_server(), 0, 0

    @server.on_publish(ROOM)
    async def uneven(publication: Publication) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.02 if publication.data % 3 == 0 else 0)
        running_now -= 1
        if publication.data % 7 == 6:
            raise errors.Forbidden("no sevens")

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        await ada.ok(type="subscribe", topic=ROOM)
        for number in range(40):
            await ada.send(type="publish", topic=ROOM, data=number)
        items = [{"topic": ROOM, "data": number} for number in range(100, 140)]
        batch = asyncio.create_task(post(running, "/api/messages", {"messages": items}))
        results = (await batch)["results"]
        expected = [n for n in range(40) if n % 7 != 6], [n for n in range(100, 140) if n % 7 != 6]
        found: list[int] = []
        while len(found) < sum(map(len, expected)):
            message = await ada.next()
            if message["type"] == "message":
                found.append(message["data"])
    assert [n for n in found if n < 100] == expected[0]
    assert [n for n in found if n >= 100] == expected[1]
    seqs = [each["seq"] for each in results if "seq" in each]
    assert seqs == sorted(seqs)
    assert most > 5


async def test_what_passes_no_hook_keeps_its_place_behind_what_does() -> None:
    """A later hook-free command of the same topic must not overtake one that is asked about."""
    server, go = chat_server(), asyncio.Event()

    @server.on_publish("room:{sub}")
    async def slow(publication: Publication) -> None:
        await go.wait()

    topic = "room:ada"
    bob_token = mint("bob", **GRANTS)
    async with (
        served(server) as running,
        await chat(running.ws_url, TOKEN) as ada,
        await chat(running.ws_url, bob_token) as bob,
    ):
        await ada.ok(type="subscribe", topic=topic)
        await ada.send(type="publish", topic=topic, data="first")
        await until(lambda: server.hook_counts)
        await bob.send(type="publish", topic=topic, data="second")
        await bob.call(type="ping")  # so the one before has come
        go.set()
        assert [(await ada.next())["data"] for _ in range(2)] == ["first", "second"]
    assert list(server.hook_counts.values()) == [1]


async def test_a_hook_may_publish_where_it_is_asked() -> None:
    """The application's own publications pass no hooks, and wait for none."""
    server = chat_server()

    @server.on_publish(ROOM)
    async def echo(publication: Publication) -> None:
        await server.publish(ROOM, {"about to": publication.data})

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        await ada.ok(type="subscribe", topic=ROOM)
        await ada.ok(type="publish", topic=ROOM, data=1)
        assert [(await ada.next())["data"] for _ in range(2)] == [{"about to": 1}, 1]


async def test_a_hook_that_calls_back_as_a_user_waits_for_itself_and_ends() -> None:
    """Its own publication stands behind the one that it is asked about, and is asked about, too."""
    server = chat_server(hooks__max_running=3, hooks__timeout_seconds=0.3)
    path = f"/api/topics/{ROOM}/messages"

    @server.on_publish(ROOM)
    async def calls_back(publication: Publication) -> None:
        if publication.data < 3:  # or it might go on as long as the machine is slow enough
            await post(running, path, {"data": publication.data + 1})

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        answer = await ada.call(type="publish", topic=ROOM, data=0)
        assert answer["code"] == "unavailable"
        await ada.ok(type="publish", topic="room:b", data=0)
        await until(lambda: not server.service.gate._lines)  # type: ignore[union-attr]
        # How far it gets until then is a matter of time.
        assert (await server.publish(ROOM, "free")).seq in (1, 2)
    outcomes = {outcome for _, outcome in server.hook_counts}
    assert {"run", "late"} <= outcomes


async def test_too_many_at_once_are_refused_and_the_others_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, go = chat_server(hooks__max_running=2, hooks__max_pending=5), asyncio.Event()
    at_once = most = 0

    @server.on_publish(ROOM)
    async def slow(publication: Publication) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go.wait()
        at_once -= 1

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        await ada.ok(type="subscribe", topic=ROOM)
        for number in range(5):
            await ada.send(type="publish", topic=ROOM, data=number)
        await ada.call(type="ping")  # so those before it have come
        refused = await post(running, f"/api/topics/{ROOM}/messages", {"data": 6})
        assert (refused["code"], refused["retry_in_ms"]) == ("unavailable", 250)
        assert "hooks.max_pending" in caplog.text
        go.set()
        assert [(await ada.next())["data"] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert most == 2


async def test_hooks_that_cannot_be_ended_keep_their_places_and_block_nobody_else() -> None:
    server = chat_server(hooks__max_running=1)
    stopped = asyncio.Event()

    @server.on_publish(ROOM, timeout_seconds=0.05)
    async def stuck(publication: Publication) -> None:
        while not stopped.is_set():
            try:
                await asyncio.sleep(3_600)
            except asyncio.CancelledError:
                continue

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        for _ in range(2):  # of which the second does not even begin
            answer = await ada.call(type="publish", topic=ROOM, data=1)
            assert answer["code"] == "unavailable"
        await ada.ok(type="publish", topic="other", data=1)
        stopped.set()
    assert sorted(server.hook_counts.values()) == [1, 2]


async def test_a_hook_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    server, logged = chat_server(), caplog.handler.records

    @server.on_subscribe(ROOM)
    async def blocks(subscription: Subscription) -> None:
        await asyncio.sleep(0)
        end = time.monotonic() + 60
        # No call into another file: the line says where the hook is just then.
        while time.monotonic() < end and not any("blocks the event" in log.msg for log in logged):
            pass

    with caplog.at_level(logging.WARNING, "chat_server.hooks"):
        async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
            await ada.ok(type="subscribe", topic=ROOM)
    lines = [record.getMessage() for record in caplog.records]
    [during] = [line for line in lines if "blocks the event loop" in line]
    assert ".blocks blocks" in during
    assert "test_bad_hooks.py" in during
    [behind] = [line for line in lines if "blocked the event loop for" in line]
    assert ".blocks blocked" in behind


async def test_what_slow_hooks_are_not_told_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    server, go = chat_server(hooks__max_pending=2), asyncio.Event()
    told: list[int] = []

    @server.on_event
    async def slow(event: Any) -> None:
        told.append(event.seq)
        await go.wait()

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        for number in range(5):
            await ada.ok(type="publish", topic=ROOM, data=number)
        await until(lambda: "were not told" in caplog.text)
        go.set()
        await until(lambda: len(told) == 3)
    assert told == [1, 2, 3]


async def test_an_http_request_that_is_given_up_is_not_carried_out() -> None:
    server, go = chat_server(http__request_timeout_seconds=0.2), asyncio.Event()

    @server.on_publish(ROOM, timeout_seconds=30)
    async def slow(publication: Publication) -> None:
        await go.wait()

    path = f"/api/topics/{ROOM}/messages"
    async with served(server) as running:
        assert (await post(running, path, {"data": 1}))["code"] == "unavailable"
        go.set()
        await until(lambda: not server.service.gate._lines)  # type: ignore[union-attr]
        assert (await server.publish(ROOM, 2)).seq == 1


def test_mistakes_in_the_code_are_told_at_once() -> None:
    server: Any = chat_server()
    with pytest.raises(ValueError, match="on_publish: 'room:' must"):
        server.on_publish("room:")(nonsense)
    with pytest.raises(TypeError, match="on_publish: takes patterns"):
        server.on_publish("room:*", nonsense)
    with pytest.raises(TypeError, match="must be a function"):
        server.on_publish("room:*")(None)
    with pytest.raises(ValueError, match="refuse or allow"):
        server.on_publish("room:*", on_failure="ignore")
    with pytest.raises(ValueError, match="timeout_seconds"):
        server.on_connect(timeout_seconds=0)(nonsense)
    server.on_call("a")(nonsense)
    with pytest.raises(ValueError, match="has a function"):
        server.on_call("a")(nonsense)
    for name in ("a b", "", "a\n", "x" * 65):
        with pytest.raises(ValueError, match="a method is"):
            server.on_call(name)


def test_a_reason_is_bounded_and_acts_nowhere() -> None:
    assert inert("no\r\n\x1b[31m\u202e, <b>") == "no   [31m , <b>"
    assert inert("x" * 500) == "x" * 199 + "…"
