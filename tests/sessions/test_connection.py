"""What a client's commands do: grants, answers, errors and what is told when."""

import gc
import logging
import weakref
from typing import Any

import pytest

from chat_server.events import PublishResult
from chat_server.protocol.codecs import MSGPACK
from chat_server.protocol.errors import Unavailable
from chat_server.sessions.connection import Connection

from ..realtime.world import World, answer, claims
from ..rig.fake_transport import FakeEncoder, FakeTransport
from ..rig.fakes import turns

ROOM = "room:a"


# Grants ----------------------------------------------------------------------------------------

NEEDS = [
    ({"type": "subscribe", "topic": ROOM}, ["subscribe"]),
    ({"type": "subscribe", "topic": ROOM, "last": 5}, ["subscribe", "history"]),
    ({"type": "subscribe", "topic": ROOM, "since": {"epoch": "e", "seq": 1}}, ["subscribe"]),
    ({"type": "publish", "topic": ROOM, "data": 1}, ["publish"]),
    ({"type": "signal", "topic": ROOM, "data": 1}, ["publish"]),
    ({"type": "history", "topic": ROOM}, ["history"]),
]


@pytest.mark.parametrize(("command", "needs"), NEEDS, ids=lambda value: str(sorted(value))[:60])
async def test_every_command_needs_its_grants(
    world: World, command: dict[str, Any], needs: list[str]
) -> None:
    grants = {"subscribe", "publish", "history", "presence", "moderate"}
    for missing in sorted(grants):
        granted: dict[str, Any] = dict.fromkeys(grants, ("**",)) | {missing: ("other",)}
        who = claims(**granted)
        reply = await answer(world.connect(who), **command)
        if missing in needs:
            assert (reply["type"], reply["code"]) == ("error", "forbidden")
            assert reply["topic"] == ROOM
            assert missing in reply["message"]
        else:
            assert reply["type"] == "ok"


@pytest.mark.parametrize(
    "command",
    [
        {"type": "subscribe", "topic": "a b"},
        {"type": "subscribe", "topic": ROOM, "last": 1, "since": {"epoch": "e", "seq": 1}},
        {"type": "publish", "topic": "", "data": 1},
        {"type": "signal", "topic": "x" * 300, "data": 1},
        {"type": "history", "topic": "%2F"},
        {"type": "history", "topic": ROOM, "before": 5, "after": 1},
    ],
)
async def test_commands_that_break_a_rule_do_nothing(world: World, command: dict[str, Any]) -> None:
    transport = world.connect(claims())
    assert (await answer(transport, **command))["code"] == "bad_request"
    assert world.broker.calls == [("start",)]
    assert (await answer(transport, type="unsubscribe", topic=ROOM))["code"] == "not_subscribed"


async def test_what_is_forbidden_leaves_nothing(world: World) -> None:
    transport = world.connect(claims(publish=("**",)))
    await answer(transport, type="subscribe", topic=ROOM)
    assert world.node.hub.topic_count == 0
    assert (await answer(transport, type="unsubscribe", topic=ROOM))["code"] == "not_subscribed"
    assert world.broker.calls == [("start",)]


@pytest.mark.parametrize("kind", ["publish", "signal"])
async def test_data_may_not_grow_beyond_the_size_of_a_message(kind: str) -> None:
    """MessagePack of 1,000 control characters is JSON of 6,000 bytes."""
    world = World(max_message_bytes=2_000)
    await world.start()
    sender = world.connect(claims(), encoder=FakeEncoder(MSGPACK))
    for data, outcome in (("\1" * 333, "ok"), ("\1" * 334, "too_large")):
        reply = await answer(sender, type=kind, topic=ROOM, data=data)
        assert reply.get("code", "ok") == outcome
    assert (reply["topic"], reply["message"]) == (
        ROOM,
        "data: may have 2000 bytes of JSON, not 2006",
    )
    assert len(world.broker.topic(ROOM).events) == int(kind == "publish")
    await world.stop()


# Answers ---------------------------------------------------------------------------------------


async def test_a_conversation(world: World) -> None:
    alice, bob = world.connect(claims("alice")), world.connect(claims("bob"))
    assert alice.messages[0]["type"] == "welcome"
    assert alice.messages[0]["user"] == "alice"
    assert alice.messages[0]["server"] == "here"
    assert "expires_at" not in alice.messages[0]
    assert await answer(alice, type="subscribe", topic=ROOM) == {
        "type": "ok",
        "id": 1001,
        "topic": ROOM,
        "epoch": "epoch0",
        "seq": 0,
        "recovered": False,
        "replayed": 0,
    }
    reply = await answer(bob, type="publish", topic=ROOM, data={"text": "hi"}, key="k")
    assert (reply["seq"], reply["epoch"], reply["duplicate"]) == (1, "epoch0", False)
    again = await answer(bob, type="publish", topic=ROOM, data="other", key="k")
    assert (again["seq"], again["duplicate"]) == (1, True)
    await answer(bob, type="signal", topic=ROOM, data="typing")
    await turns()
    message, signal = alice.messages[2:]
    assert message == {
        "type": "message",
        "topic": ROOM,
        "seq": 1,
        "at": reply["at"],
        "from": {"user": "bob"},
        "data": {"text": "hi"},
    }
    assert (signal["type"], signal["data"], signal["from"]) == ("signal", "typing", {"user": "bob"})
    assert signal["at"] == 1_700_000_000_000
    assert await answer(alice, type="unsubscribe", topic=ROOM) == {
        "type": "ok",
        "id": 1004,
        "topic": ROOM,
    }
    await answer(bob, type="publish", topic=ROOM, data=2)
    await turns()
    assert len(alice.messages) == 5
    assert world.node.hub.topic_count == 0


async def test_keys_belong_to_their_user(world: World) -> None:
    for sub in ("alice", "bob"):
        reply = await answer(
            world.connect(claims(sub)), type="publish", topic=ROOM, data=sub, key="k"
        )
        assert reply["duplicate"] is False


async def test_encodings_meet_in_a_topic(world: World) -> None:
    json = await world.subscribed(ROOM)
    packed = world.connect(claims("bob"), encoder=FakeEncoder(MSGPACK))
    await answer(packed, type="subscribe", topic=ROOM)
    data = {"é": [1.5, None, 2**63, "\U0001f600"]}
    for sender in (json, packed):
        await answer(sender, type="publish", topic=ROOM, data=data)
    await turns()
    pushes = [push for who in (json, packed) for push in who.of_type("message")]
    assert [push["data"] for push in pushes] == [data] * 4


async def test_a_resume_is_answered_before_what_it_missed(world: World) -> None:
    for number in range(3):
        world.broker.store(ROOM, number)
    transport = world.connect(claims())
    transport.say(type="subscribe", topic=ROOM, since={"epoch": "epoch0", "seq": 1}, id=1)
    await turns()
    ok, *pushes = transport.messages[1:]
    assert (ok["recovered"], ok["replayed"], ok["seq"]) == (True, 2, 3)
    assert [push["seq"] for push in pushes] == [2, 3]


async def test_several_long_resumes_at_once(world: World) -> None:
    topics = [f"room:{number}" for number in range(4)]
    await world.subscribed(*topics)
    for topic in topics:
        for number in range(900):
            world.broker.store(topic, number)
    await turns()
    transport = world.connect(claims())
    for topic in topics:
        since = {"epoch": f"epoch{topic[-1]}", "seq": 0}
        transport.say(type="subscribe", topic=topic, since=since)
    await turns(200)
    got: dict[str, list[int]] = {topic: [] for topic in topics}
    for message in transport.of_type("message"):
        got[message["topic"]].append(message["seq"])
    assert all(got[topic] == [*range(1, 901)] for topic in topics)


@pytest.mark.parametrize(
    ("fields", "seqs", "more"),
    [
        ({}, [*range(11, 61)], True),
        ({"limit": 300}, [*range(1, 61)], False),
        ({"limit": 2}, [59, 60], True),
        ({"before": 4}, [1, 2, 3], False),
        ({"before": 50, "limit": 2}, [48, 49], True),
        ({"before": 1}, [], False),
        ({"before": 0}, [], False),
        ({"after": 57}, [58, 59, 60], False),
        ({"after": 5, "limit": 2}, [6, 7], True),
        ({"after": 0, "limit": 1}, [1], True),
        ({"after": 60}, [], False),
    ],
)
async def test_history(world: World, fields: dict[str, int], seqs: list[int], more: bool) -> None:
    for number in range(60):
        world.broker.store(ROOM, number)
    reply = await answer(world.connect(claims()), type="history", topic=ROOM, **fields)
    assert [message["seq"] for message in reply["messages"]] == seqs
    assert all(message["data"] == message["seq"] - 1 for message in reply["messages"])
    assert (reply["topic"], reply["epoch"], reply["more"]) == (ROOM, "epoch0", more)


# Failures --------------------------------------------------------------------------------------

WAITING = [
    {"type": "subscribe", "topic": ROOM},
    {"type": "subscribe", "topic": ROOM, "last": 3},
    {"type": "publish", "topic": ROOM, "data": 1},
    {"type": "signal", "topic": ROOM, "data": 1},
    {"type": "history", "topic": ROOM},
]


@pytest.mark.parametrize("command", WAITING)
async def test_a_broker_that_is_away(world: World, command: dict[str, Any]) -> None:
    transport = world.connect(claims())
    world.broker.go_away()
    reply = await answer(transport, **command)
    assert (reply["type"], reply["code"]) == ("error", "unavailable")
    world.broker.come_back()
    assert (await answer(transport, **command))["type"] == "ok"


@pytest.mark.parametrize("command", WAITING[2:4])
async def test_a_broker_that_refuses_at_once(world: World, command: dict[str, Any]) -> None:
    world.broker.raises = Unavailable("busy", retry_in_ms=250)
    reply = await answer(world.connect(claims()), **command)
    assert (reply["code"], reply["retry_in_ms"]) == ("unavailable", 250)


async def test_a_publication_given_up_by_the_broker(world: World) -> None:
    world.broker.publications = []
    transport = world.connect(claims())
    for id in (1, 2, 3):
        transport.say(type="publish", topic=ROOM, data=id, id=id)
    first, second, third = world.broker.publications
    first.cancel()
    second.set_exception(RuntimeError("secret details"))
    third.set_result(PublishResult(7, "e", 5))
    await turns()
    replies = transport.messages[1:]
    assert [reply.get("code") for reply in replies] == ["unavailable", "internal", None]
    assert "secret" not in str(replies)


@pytest.mark.parametrize("command", WAITING)
async def test_a_fault_of_ours_is_logged_and_told_without_details(
    world: World,
    command: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret details")

    for name in ("publish", "signal", "history"):
        monkeypatch.setattr(world.broker, name, fail)
    monkeypatch.setattr(world.node.hub, "join", fail)
    transport = world.connect(claims())
    reply = await answer(transport, **command)
    assert (reply["type"], reply["code"]) == ("error", "internal")
    assert "secret" not in reply["message"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert (await answer(transport, type="ping"))["type"] == "pong"
    assert (await answer(transport, type="unsubscribe", topic=ROOM))["code"] == "not_subscribed"


async def test_a_fault_in_a_replay_closes_instead_of_stopping_silently(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await world.subscribed(ROOM)
    transport.fill()
    world.broker.read_error = RuntimeError("a bug")
    transport.drain()
    await turns()
    assert transport.closed is not None
    assert transport.closed[0] == 1011
    assert transport.messages[-1]["type"] == "goodbye"
    assert "bug" not in str(transport.messages)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WAITING)
@pytest.mark.parametrize("passed", range(5))
async def test_a_client_lost_in_the_middle_of_a_command(
    world: World, command: dict[str, Any], passed: int
) -> None:
    """Lose it at each place where the command may wait; `world` checks that nothing is left."""
    transport = world.connect(claims())
    transport.say(**command, id=1)
    transport.say(**command, id=2)
    await turns(passed)
    transport.lose()
    answered = len(transport.written)
    await turns()
    assert len(transport.written) == answered


@pytest.mark.parametrize("command", [*WAITING, {"type": "auth", "token": "t"}])
async def test_a_client_closed_in_the_turn_of_its_command(
    world: World, command: dict[str, Any]
) -> None:
    world.verifier.later.shut = True
    transport = world.connect(claims())
    transport.say(**command, id=1)
    assert transport.receiver is not None
    transport.receiver.on_message(b"", binary=True)
    assert transport.closed is not None
    gc.collect()  # a coroutine that never ran would be told of here


async def test_publications_go_on_without_their_client(world: World) -> None:
    world.broker.publications = []
    transport = world.connect(claims())
    transport.say(type="publish", topic=ROOM, data=1, id=1)
    transport.lose()
    (future,) = world.broker.publications
    assert not future.cancelled()
    future.set_exception(Unavailable("away"))
    await turns()


async def test_aborting_leaves_nothing(world: World) -> None:
    transport = await world.subscribed(ROOM)
    transport.say(type="history", topic=ROOM, id=1)
    connection = transport.receiver
    assert isinstance(connection, Connection)
    connection.abort()
    await turns()
    assert (transport.aborted, transport.messages) == (True, [])
    transport.lose()
    assert len(world.node.registry) == 0


async def test_a_client_that_is_gone_needs_no_garbage_collector(world: World) -> None:
    gc.collect()
    gc.disable()
    try:
        transport = await world.subscribed(ROOM)
        transport.say(type="publish", topic=ROOM, data=1, id=2)
        transport.say(type="history", topic=ROOM, id=3)
        transport.fill()
        transport.drain()
        await turns()
        gone = weakref.ref(transport.receiver)
        world.transports.remove(transport)
        transport.lose()
        await turns()
        transport.receiver = None
        del transport
        assert gone() is None
    finally:
        gc.enable()


async def test_tasks_are_forgotten_when_they_are_done(world: World) -> None:
    transport = await world.subscribed(ROOM)
    for _ in range(3):
        await answer(transport, type="history", topic=ROOM)
    await turns()
    connection = transport.receiver
    assert isinstance(connection, Connection)
    assert connection._tasks == set()


async def test_a_client_may_pause_and_resume(world: World) -> None:
    limit = world.node.settings.limits.max_pending_commands
    world.broker.publications = []
    transport = world.connect(claims())
    for id in range(1, limit + 1):
        transport.say(type="publish", topic=ROOM, data=id, id=id)
    assert transport.flow == ["pause"]
    for future in world.broker.publications:
        future.set_result(PublishResult(1, "e", 1))
    await turns()
    assert transport.flow == ["pause", "resume"]
    assert [m["id"] for m in transport.of_type("ok")] == [*range(1, limit + 1)]


async def test_one_broken_client_does_not_stop_the_others(world: World) -> None:
    first = await world.subscribed(ROOM)
    second = await world.subscribed(ROOM, who=claims("bob"))
    first.abort()
    world.broker.store(ROOM, "hello")
    await turns()
    assert [m["data"] for m in second.of_type("message")] == ["hello"]


def _is_connection(transport: FakeTransport) -> Connection:
    connection = transport.receiver
    assert isinstance(connection, Connection)
    return connection


async def test_ids_of_connections_differ(world: World) -> None:
    ids = {_is_connection(world.connect(claims())).id for _ in range(50)}
    assert len(ids) == 50
    assert {m["session"] for t in world.transports for m in t.messages} == ids


async def test_limits_are_told(world: World) -> None:
    (welcome,) = world.connect(claims()).messages
    limits = world.node.settings.limits
    assert welcome["limits"] == {
        "max_message_bytes": limits.max_message_bytes,
        "max_topics": limits.max_topics,
        "max_pending_commands": limits.max_pending_commands,
        "messages_per_second": limits.messages_per_second,
        "message_burst": limits.message_burst,
        "idempotency_seconds": 300.0,
    }
