"""Tokens on a connection: first, refreshed, expired, refused; and how many connections they get."""

import logging
from typing import Any

import msgspec
import pytest

from chat_server.protocol.errors import Unauthorized, Unavailable
from chat_server.settings import AuthSettings

from ..realtime.world import World, answer, claims
from ..rig.fake_transport import FakeTransport
from ..rig.fakes import turns, until

ROOM = "room:a"
LEEWAY = AuthSettings().leeway_seconds


def closed_with(transport: FakeTransport) -> int | None:
    """Return the close code, after a look at the goodbye before it."""
    if transport.closed is None:
        assert transport.of_type("goodbye") == []
        return None
    code, reason = transport.closed
    goodbye = transport.messages[-1]
    assert (goodbye["type"], goodbye["code"], goodbye["reason"]) == ("goodbye", code, reason)
    return code


@pytest.fixture(params=[False, True], ids=["now", "later"])
async def waiting(request: pytest.FixtureRequest, world: World) -> None:
    """Once the issuer's keys are there, and once they have to be fetched."""
    world.verifier.later.shut = request.param


async def authenticate(world: World, transport: FakeTransport, token: str) -> None:
    transport.say(type="auth", token=token, id=77)
    await turns()
    world.verifier.later.release()
    await turns()


# The first token -------------------------------------------------------------------------------


async def test_a_token_on_the_way_in(world: World) -> None:
    transport = world.connect(claims(expires_in=60))
    (welcome,) = transport.messages
    assert (welcome["type"], welcome["expires_at"]) == ("welcome", 1_700_000_060)


@pytest.mark.parametrize("by_auth", [False, True])
async def test_a_refused_token_is_logged_with_the_address_once_a_minute(
    world: World, caplog: pytest.LogCaptureFixture, by_auth: bool
) -> None:
    caplog.set_level(logging.INFO, "chat_server.realtime.node")
    refusal = Unauthorized("token: has expired")
    refusal.log_fields = {"issuer": "https://issuer.example", "kid": "old"}
    world.verifier.tokens["old"] = refusal
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        if by_auth:
            await authenticate(world, world.connect(address=address), "old")
        else:
            world.connect(refusal=refusal, address=address)
    assert [record.getMessage() for record in caplog.records] == [
        "a token from 192.0.2.1 is not accepted: token: has expired",
        "a token from 192.0.2.2 is not accepted: token: has expired",
    ]
    for record, address in zip(caplog.records, ("192.0.2.1", "192.0.2.2"), strict=True):
        fields = vars(record)
        told = (fields["address"], fields["issuer"], fields["kid"])
        assert told == (address, "https://issuer.example", "old")


async def test_a_token_by_auth(world: World, waiting: None) -> None:
    world.verifier.tokens["t"] = claims("bob", expires_in=60)
    transport = world.connect()
    transport.say(type="publish", topic=ROOM, data=1, id=1)
    await authenticate(world, transport, "t")
    error, welcome, ok = transport.messages
    assert error["code"] == "unauthorized"
    assert welcome["user"] == "bob"
    assert ok == {"type": "ok", "id": 77, "user": "bob", "expires_at": 1_700_000_060}
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["type"] == "ok"


async def test_a_bad_first_token_closes(world: World, waiting: None) -> None:
    transport = world.connect()
    await authenticate(world, transport, "bad")
    assert closed_with(transport) == 4401
    assert [message["type"] for message in transport.messages] == ["goodbye"]
    assert len(world.node.registry) == 1, "it counts until it is gone"


async def test_keys_that_cannot_be_fetched_are_worth_another_try(world: World) -> None:
    world.verifier.tokens["t"] = Unavailable("no keys", retry_in_ms=500)
    transport = world.connect()
    reply = await answer(transport, type="auth", token="t")
    assert (reply["code"], reply["retry_in_ms"]) == ("unavailable", 500)
    world.verifier.tokens["t"] = claims()
    assert (await answer(transport, type="auth", token="t"))["type"] == "ok"


async def test_a_fault_of_the_verifier_tells_nothing(
    world: World, waiting: None, caplog: pytest.LogCaptureFixture
) -> None:
    world.verifier.tokens["t"] = RuntimeError("a secret")
    transport = world.connect()
    await authenticate(world, transport, "t")
    (reply,) = transport.messages
    assert (reply["id"], reply["code"]) == (77, "internal")
    assert "secret" not in reply["message"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("refusal", "code"), [(Unauthorized("no"), 4401), (Unavailable("no keys"), 1013)]
)
async def test_a_refused_handshake_is_closed(world: World, refusal: Any, code: int) -> None:
    transport = world.connect(refusal=refusal)
    assert closed_with(transport) == code


async def test_without_auth_in_time_it_is_closed(world: World) -> None:
    transport = world.connect()
    world.advance(9.9)
    assert closed_with(transport) is None
    world.advance(0.1)
    assert closed_with(transport) == 4408


async def test_the_timers_run_by_themselves() -> None:
    world = World(auth_timeout_seconds=0.01)
    await world.start()
    transport = world.connect()
    world.clock.advance(0.01)
    await until(lambda: transport.closed is not None)
    assert closed_with(transport) == 4408
    await world.stop()


# Refreshing --------------------------------------------------------------------------------------


async def test_a_refresh_prolongs(world: World, waiting: None) -> None:
    transport = world.connect(claims(expires_in=60))
    world.verifier.tokens["t"] = claims(expires_in=600)
    await authenticate(world, transport, "t")
    assert transport.messages[1:] == [
        {"type": "ok", "id": 77, "user": "alice", "expires_at": 1_700_000_600}
    ]
    world.clock.advance(100)
    transport.say(type="ping")
    world.advance(0)
    assert transport.of_type("error") == []
    assert closed_with(transport) is None


@pytest.mark.parametrize("can_ping", [True, False])
async def test_the_expiry_of_a_refreshed_token_is_watched(world: World, can_ping: bool) -> None:
    transport = world.connect(claims(), can_ping=can_ping)
    world.verifier.tokens["t"] = claims(expires_in=5)
    await authenticate(world, transport, "t")
    connection: Any = transport.receiver
    assert connection._slot is not None
    world.advance(5 + LEEWAY)
    assert transport.messages[-1]["code"] == "unauthorized"
    world.advance(25)
    assert closed_with(transport) == 4401


async def test_a_token_that_is_taken_is_of_use(world: World, waiting: None) -> None:
    transport = await world.subscribed(ROOM)
    world.verifier.tokens["t"] = claims(expires_in=-1)
    await authenticate(world, transport, "t")
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["type"] == "ok"
    world.advance(LEEWAY - 1)
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["code"] == "unauthorized"


async def test_expiry_is_told_and_may_be_mended(world: World, waiting: None) -> None:
    transport = await world.subscribed(ROOM, who=claims(expires_in=10))
    world.advance(10 + LEEWAY)
    (notice,) = transport.messages
    assert (notice["type"], notice["code"]) == ("error", "unauthorized")
    assert "id" not in notice
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["code"] == "unauthorized"
    world.broker.store(ROOM, "still pushed")
    await turns()
    assert transport.messages[-1]["data"] == "still pushed"
    world.advance(24)
    world.verifier.tokens["t"] = claims(expires_in=1000)
    await authenticate(world, transport, "t")
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["type"] == "ok"
    world.advance(1)
    assert closed_with(transport) is None


async def test_a_bad_refresh_changes_nothing(world: World, waiting: None) -> None:
    transport = await world.subscribed(ROOM)
    await authenticate(world, transport, "bad")
    (reply,) = transport.messages
    assert (reply["id"], reply["code"]) == (77, "unauthorized")
    assert (await answer(transport, type="publish", topic=ROOM, data=1))["type"] == "ok"


async def test_a_refresh_for_another_user_is_refused(world: World, waiting: None) -> None:
    transport = await world.subscribed(ROOM)
    world.verifier.tokens["t"] = claims("mallory", subscribe=())
    await authenticate(world, transport, "t")
    (reply,) = transport.messages
    assert (reply["id"], reply["code"]) == (77, "unauthorized")
    await answer(transport, type="publish", topic=ROOM, data=1)
    await turns()
    assert transport.of_type("message")[0]["from"] == {"user": "alice"}


async def test_a_refresh_with_less_drops_topics(world: World, waiting: None) -> None:
    transport = await world.subscribed("room:a", "room:b", "team:c")
    world.verifier.tokens["t"] = claims(subscribe=("room:a",), publish=("**",))
    await authenticate(world, transport, "t")
    *errors, ok = transport.messages
    assert sorted(error["topic"] for error in errors) == ["room:b", "team:c"]
    assert all(error["code"] == "forbidden" and "id" not in error for error in errors)
    assert (ok["type"], ok["id"]) == ("ok", 77)
    assert world.node.hub.topic_count == 1
    for topic in ("room:a", "room:b"):
        world.broker.store(topic)
    await turns()
    assert [message["topic"] for message in transport.of_type("message")] == ["room:a"]
    assert (await answer(transport, type="subscribe", topic="room:b"))["code"] == "forbidden"


async def test_a_refresh_while_a_subscription_waits_comes_after_it(world: World) -> None:
    transport = world.connect(claims())
    world.verifier.tokens["t"] = claims(publish=("**",))
    world.broker.reads.shut = True
    transport.say(type="subscribe", topic=ROOM, id=1)
    transport.say(type="auth", token="t", id=2)
    await turns()
    world.broker.reads.open()
    await turns()
    kinds = [(m["type"], m.get("id"), m.get("code")) for m in transport.messages[1:]]
    assert kinds == [("ok", 1, None), ("error", None, "forbidden"), ("ok", 2, None)]
    assert world.node.hub.topic_count == 0


async def test_other_data_of_the_user_is_taken_from_the_new_token(world: World) -> None:
    transport = await world.subscribed(ROOM)
    world.verifier.tokens["t"] = msgspec.structs.replace(claims(), name="Alice", info={"age": 7})
    await authenticate(world, transport, "t")
    await answer(transport, type="publish", topic=ROOM, data=1)
    await turns()
    (message,) = transport.of_type("message")
    assert message["from"] == {"user": "alice", "name": "Alice", "info": {"age": 7}}


async def test_a_client_gone_while_its_token_was_checked(world: World) -> None:
    world.verifier.later.shut = True
    world.verifier.tokens["t"] = claims()
    for end in ("lose", "abort"):
        transport = world.connect()
        transport.say(type="auth", token="t", id=1)
        await turns()
        connection: Any = transport.receiver
        (transport.lose if end == "lose" else connection.abort)()
        world.verifier.later.release()
        await turns()
        assert transport.messages == []


# How many connections --------------------------------------------------------------------------


async def test_connections_of_a_user_are_limited_and_released() -> None:
    world = World(max_connections_per_user=2)
    await world.start()
    first, second = world.connect(claims()), world.connect(claims())
    third = world.connect(claims())
    assert [closed_with(t) for t in (first, second, third)] == [None, None, 4429]
    assert closed_with(world.connect(claims("bob"))) is None
    first.lose()
    third.lose()
    world.verifier.tokens["t"] = claims()
    fourth, fifth = world.connect(), world.connect()
    for transport in (fourth, fifth):
        transport.say(type="auth", token="t", id=1)
    assert [closed_with(t) for t in (fourth, fifth)] == [None, 4429]
    await world.stop()


async def test_connections_in_all_are_limited_and_released() -> None:
    world = World(max_connections=2)
    await world.start()
    first = world.connect(claims("alice"), address="10.0.0.1")
    world.connect(address="10.0.0.2")
    late = world.connect(claims("carol"), address="10.0.0.3")
    assert closed_with(late) == 1013
    late.lose()
    first.lose()
    assert closed_with(world.connect(claims("carol"), address="10.0.0.3")) is None
    await world.stop()
    assert not world.node.registry._addresses._members


async def test_connections_of_an_address_are_limited_and_released() -> None:
    world = World(max_connections_per_address=2)
    await world.start()
    first = world.connect(claims())
    world.connect()
    refused = [world.connect(claims()) for _ in range(3)]
    assert [closed_with(transport) for transport in refused] == [4429] * 3
    assert closed_with(world.connect(claims(), address="10.0.0.2")) is None
    for transport in refused:
        transport.lose()
    assert closed_with(world.connect(claims())) == 4429
    first.lose()
    assert closed_with(world.connect(claims())) is None
    await world.stop()


@pytest.mark.parametrize("why", ["draining", "refused", "user", "silent"])
async def test_whatever_ends_it_a_connection_is_uncounted(why: str) -> None:
    world = World(max_connections_per_user=1)
    await world.start()
    if why == "draining":
        world.node.drain.begun = True
        transport = world.connect(claims())
        await turns()
        assert closed_with(transport) == 1012
    elif why == "refused":
        transport = world.connect(refusal=Unauthorized("no"))
    elif why == "user":
        world.connect(claims())
        transport = world.connect(claims())
    else:
        transport = world.connect()
        world.advance(10)
    assert transport.closed is not None
    await world.stop()


async def test_a_refresh_does_not_count_twice() -> None:
    world = World(max_connections_per_user=1)
    await world.start()
    transport = world.connect(claims())
    world.verifier.tokens["t"] = claims()
    for _ in range(3):
        assert (await answer(transport, type="auth", token="t"))["type"] == "ok"
    await world.stop()


# Heartbeat ---------------------------------------------------------------------------------------


async def test_a_silent_client_is_pinged_and_closed(world: World) -> None:
    transport = world.connect(claims())
    world.advance(25 * 1.1)
    assert transport.pings == 1
    world.clock.advance(5)
    assert transport.receiver is not None
    transport.receiver.on_sign_of_life()
    world.advance(5)
    assert closed_with(transport) is None
    world.advance(25 * 1.1)
    assert transport.pings == 2
    world.advance(10)
    assert closed_with(transport) == 4408


async def test_where_nobody_can_be_pinged_nobody_is(world: World) -> None:
    transport = world.connect(claims(), can_ping=False)
    for _ in range(10):
        world.advance(1_000)
    assert (transport.pings, closed_with(transport)) == (0, None)


async def test_pings_are_spread(world: World) -> None:
    beats = set()
    for _ in range(20):
        connection: Any = world.connect(claims()).receiver
        beats.add(connection._session._limits.heartbeat_seconds)
    assert len(beats) > 10
    assert all(25 * 0.9 <= beat <= 25 * 1.1 for beat in beats)


async def test_too_many_commands_are_told_so() -> None:
    world = World(messages_per_second=10.0, message_burst=2)
    await world.start()
    transport = world.connect(claims())
    for id in (1, 2, 3):
        transport.say(type="ping", id=id)
    world.clock.advance(0.1)
    transport.say(type="ping", id=4)
    replies = transport.messages[1:]
    assert [reply["type"] for reply in replies] == ["pong", "pong", "error", "pong"]
    assert (replies[2]["code"], replies[2]["retry_in_ms"]) == ("rate_limited", 100)
    await world.stop()
