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
    assert refused.value.limit == "connects_per_address"


def test_handshakes_that_are_refused_use_the_rates_up() -> None:
    clock = ManualClock()
    limits = LimitSettings(connects_per_address="2/10s", connects_per_user="1/10s")
    arrivals = Arrivals(limits, clock)
    arrivals.knock("a", "eve")
    assert arrivals.find("a") is None, "one is left"
    found = arrivals.find_user("eve")
    assert found is not None
    assert (found.limit, found.retry_in_ms) == ("connects_per_user", 10_000)
    arrivals.knock("a")
    found = arrivals.find("a")
    assert found is not None
    assert (found.limit, found.retry_in_ms) == ("connects_per_address", 5_000)
    assert arrivals.find("b") is None
    assert arrivals.find_user("") is None
    # Looking costs nothing.
    clock.advance(5.0)
    assert arrivals.find("a") is None
    arrivals.connect("a")


def test_pages_elsewhere_use_up_nothing_of_their_visitors() -> None:
    arrivals = Arrivals(LimitSettings(connects_per_address="1/10s"), ManualClock())
    arrivals.knock("a", foreign=True)
    assert arrivals.find("a", foreign=True) is not None
    assert arrivals.find("a") is None
    arrivals.connect("a")


@pytest.mark.parametrize("limit", ["connects_per_address", "connects_per_user"])
async def test_a_connection_too_many_hears_when_to_come_back(
    limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(**{limit: "1/1m"})
    await world.start()
    kept, refused = (world.connect(claims()) for _ in range(2))
    assert kept.closed is None
    assert refused.closed is not None
    assert refused.closed[0] == 4429
    (goodbye,) = refused.messages
    assert goodbye["reconnect_in_ms"] == 60_000
    for _ in range(3):
        world.connect(claims())
    assert world.node.numbers.rate_limited == {limit: 4}
    [record] = caplog.records
    told = vars(record)
    assert record.getMessage().startswith("a connection is closed with 4429: too many connects of")
    assert (record.levelname, told["limit"], told["user"]) == ("WARNING", limit, "alice")
    assert told["address"] == "10.0.0.1"
    assert len(told["connection"]) == 16
    # What was refused is not counted as a connection, and leaves nothing behind.
    await world.stop()


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_connections": 1}, "connections"),
        ({"max_connections_per_user": 1}, "connections_of_user"),
        ({"max_connections_per_address": 1}, "connections_of_address"),
    ],
)
async def test_each_bound_has_a_line_and_a_number(
    limits: dict[str, int], limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(**limits)
    await world.start()
    for _ in range(3):
        world.connect(claims())
    assert world.node.numbers.rate_limited == {limit: 2}
    assert [vars(record)["limit"] for record in caplog.records] == [limit]
    await world.stop()


async def test_a_client_that_does_not_wait_is_named_when_it_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(messages_per_connection="1/1m")
    await world.start()
    eve = world.connect(claims("eve"))
    for _ in range(1_100):
        eve.say(type="ping")
    assert eve.closed is not None
    assert eve.closed[0] == 4429
    flood, closed = caplog.records
    assert flood.getMessage() == "a user is refused by limits.messages_per_connection"
    assert closed.getMessage() == "a connection is closed with 4429: retry_in_ms was ignored"
    told = vars(closed)
    assert (told["user"], told["limit"]) == ("eve", "messages_per_connection")
    assert world.node.numbers.rate_limited == {"messages_per_connection": 1_000}
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
