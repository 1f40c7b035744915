"""A history that is purged is gone for both workers, and a failover does not bring it back."""

import pytest

from tests.rig.chat_client import Chat
from tests.rig.redis_sentinel import SentinelTrio
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess
from tests.rig.waiting import until

from .cluster import until_health
from .test_failover import TOPIC, publish, receive_until, trio, two_clients
from .test_operators import order

__all__ = ["trio"]  # the fixture


async def said(client: Chat) -> list[object]:
    """Return the data of all messages that the topic has."""
    page = await client.ok(type="history", topic=TOPIC)
    return [message["data"] for message in page["messages"]]


async def say(*clients: Chat) -> None:
    """Publish three messages to subscribers of both workers."""
    for number in (1, 2, 3):
        assert await publish(clients[0], number) == number
    for client in clients:
        await receive_until(client, 3)


async def purge(server: ServerProcess, *clients: Chat) -> None:
    """Purge what there is; both workers obey, and tell their subscribers of a gap."""
    answer = await order(server, "purge", topic=TOPIC)
    assert (len(answer["confirmed"]), answer["missing"], answer["connections"]) == (2, [], 2)
    gaps = []
    for client in clients:
        while (gap := await client.next())["type"] != "gap" or gap["before"] != 4:
            pass  # of what a failover has brought back
        gaps.append((gap["reason"], gap["epoch"]))
    assert gaps == [("epoch_changed", gaps[0][1])] * 2


async def goes_on(one: Chat, two: Chat) -> None:
    """See that nothing is left, and that the next message has the next seq."""
    for client in (one, two):
        assert await said(client) == []
    assert await publish(two, "next") == 4
    for client in (one, two):
        assert [push["seq"] for push in await receive_until(client, "next")] == [4]
        assert await said(client) == ["next"]


async def test_nothing_is_left_on_either_worker(redis: RedisServer) -> None:
    async with two_clients(redis.url) as (server, one, two):
        await say(one, two)
        epoch = (await one.ok(type="history", topic=TOPIC))["epoch"]
        await purge(server, one, two)
        await goes_on(one, two)
        await two.ok(type="unsubscribe", topic=TOPIC)
        answer = await two.ok(type="subscribe", topic=TOPIC, since={"epoch": epoch, "seq": 3})
        assert (answer["recovered"], answer["reason"]) == (False, "epoch_changed")


@pytest.mark.extra
async def test_a_failover_does_not_bring_it_back(trio: SentinelTrio) -> None:
    old, replica = trio.servers
    async with two_clients(trio.url) as (server, one, two):
        await say(one, two)
        await purge(server, one, two)
        await until(lambda: old.has_replicated_to(replica))
        await replace(old, trio, server)
        await goes_on(one, two)


@pytest.mark.extra
async def test_a_purge_that_a_failover_has_lost_can_be_given_again(trio: SentinelTrio) -> None:
    """The limit of asynchronous replication that docs/operators.md names."""
    old, replica = trio.servers
    async with two_clients(trio.url) as (server, one, two):
        await say(one, two)
        await until(lambda: old.has_replicated_to(replica))
        replica.pause()
        old.command("CLIENT", "KILL", "TYPE", "replica")
        await purge(server, one, two)
        old.kill()
        replica.resume()
        await replace(old, trio, server)
        for client in (one, two):
            assert await said(client) == [1, 2, 3]
        await purge(server, one, two)
        await goes_on(one, two)


async def replace(old: RedisServer, trio: SentinelTrio, server: ServerProcess) -> None:
    """End a master, and wait until both workers use the other one."""
    old.kill()
    await until(lambda: trio.master() is not old)
    await until_health(server, "ok")
