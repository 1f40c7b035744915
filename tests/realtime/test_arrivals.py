"""Rates of connects and joins, and of one connection's messages."""

import msgspec
import pytest

from chat_server.protocol.errors import RateLimited
from chat_server.realtime.arrivals import Arrivals
from chat_server.settings import LimitSettings

from ..rig.clock import ManualClock
from .world import World, answer, claims

ROOM = "room:a"


def test_each_rate_has_its_own_names_and_recovers() -> None:
    clock = ManualClock()
    arrivals = Arrivals(LimitSettings(connects_per_address="2/10s"), clock)
    arrivals.connect("a")
    arrivals.connect("a")
    arrivals.connect("b")
    with pytest.raises(RateLimited, match=r"^too many connects of this address") as refused:
        arrivals.connect("a")
    assert refused.value.retry_in_ms == 5_000
    arrivals.welcome("a", 1.0)
    arrivals.join("a", ROOM, 1.0)
    clock.advance(5.0)
    arrivals.connect("a")
    assert arrivals.refused == {"connects": 1, "joins": 0}


@pytest.mark.parametrize("limit", ["connects_per_address", "connects_per_user"])
async def test_a_connection_too_many_hears_when_to_come_back(limit: str) -> None:
    world = World(**{limit: "1/1m"})
    await world.start()
    kept, refused = (world.connect(claims()) for _ in range(2))
    assert kept.closed is None
    assert refused.closed is not None
    assert refused.closed[0] == 4429
    (goodbye,) = refused.messages
    assert goodbye["reconnect_in_ms"] == 60_000
    # What was refused is not counted as a connection, and leaves nothing behind.
    await world.stop()


async def test_a_factor_in_the_token_widens_a_users_rates() -> None:
    world = World(connects_per_user="1/1m", joins_per_user="1/1m", messages_per_connection="1/1m")
    await world.start()
    bot = msgspec.structs.replace(claims("bot"), rate_factor=3.0)
    connections = [world.connect(bot) for _ in range(4)]
    assert [each.closed is None for each in connections] == [True, True, True, False]
    first = connections[0]
    answers = [await answer(first, type="subscribe", topic=f"room:{n}") for n in range(4)]
    assert [each["type"] for each in answers] == ["ok", "ok", "ok", "error"]
    assert answers[3]["code"] == "rate_limited"
    assert answers[3]["topic"] == "room:3"
    # The first subscriptions of a connection are no messages.
    sent = [await answer(first, type="publish", topic=ROOM, data=n) for n in range(4)]
    assert [each["type"] for each in sent] == ["ok", "ok", "ok", "error"]
    other = await answer(connections[1], type="publish", topic=ROOM, data=0)
    assert other["type"] == "ok"
    await world.stop()


async def test_a_topic_takes_so_many_joins_of_all_users() -> None:
    world = World(joins_per_topic="1/1m")
    await world.start()
    ada, bob = world.connect(claims("ada")), world.connect(claims("bob"))
    assert (await answer(ada, type="subscribe", topic=ROOM))["type"] == "ok"
    refused = await answer(bob, type="subscribe", topic=ROOM)
    assert (refused["code"], refused["topic"]) == ("rate_limited", ROOM)
    assert refused["message"] == "topic: too many joins of all users"
    assert (await answer(bob, type="subscribe", topic="room:b"))["type"] == "ok"
    await world.stop()
