"""The slots of a Redis Cluster, and an operator that moves slots completely."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from loadtest.wire import LoadError

from ..rig.redis_cluster import RedisCluster
from ..rig.redis_server import RedisServer

MIGRATE_MS = 1_000
"""Milliseconds that a migrating server blocks at most while the other server is blocked."""

KEYS_AT_ONCE = 100
MOVE_SECONDS = 60.0
RETRY_SECONDS = 0.1


class Slots:
    """The master of each topic's slot, and the operator that moves slots.

    Args:
        cluster: the running cluster; its nodes are masters without replicas.
        topics: topics whose slots are moved.
    """

    def __init__(self, cluster: RedisCluster, topics: Sequence[str]) -> None:
        self._servers = cluster.nodes
        self._owners = {key_slot(topic.encode()): cluster.owner(topic) for topic in topics}
        self._names = {node: node.run("CLUSTER", "MYID").decode() for node in cluster.nodes}

    def spread(self) -> list[int]:
        """Return the number of the topics' slots on each server."""
        counts = Counter(self._owners.values())
        return [counts[server] for server in self._servers]

    def server_of(self, topic: str) -> RedisServer:
        """Return the master of a topic's slot."""
        return self._owners[key_slot(topic.encode())]

    async def move(self, seconds: float, rng: random.Random) -> None:
        """Move a topic's slot to the other master with the fewest slots, while the slot is in use.

        The move continues through all faults of the two servers, until the slot is whole again.

        Args:
            seconds: seconds for which the slot stays half moved on purpose.
            rng: chooses the slot and the pauses.

        Raises:
            LoadError: the slot cannot be moved.
        """
        slot = rng.choice(sorted(self._owners))
        source = self._owners[slot]
        counts = Counter(self._owners.values())
        others = [server for server in self._servers if server is not source]
        target = min(rng.sample(others, len(others)), key=lambda server: counts[server])
        operator = _Operator(time.monotonic() + seconds + MOVE_SECONDS)
        pause = seconds * rng.random()
        await operator.run(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._names[source])
        await operator.run(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._names[target])
        await asyncio.sleep(pause)
        # Some of them, so that the keys of one topic are on both servers for a while.
        keys = sorted(await operator.keys(source, slot))
        await operator.migrate(source, target, rng.sample(keys, rng.randint(0, len(keys))))
        await asyncio.sleep(seconds - pause)
        while keys := await operator.keys(source, slot):
            await operator.migrate(source, target, keys)
        # Once each: a node that is told a second time ends the subscriptions in the slot anew.
        for server in dict.fromkeys((target, source, *self._servers)):
            await operator.run(server, "CLUSTER", "SETSLOT", slot, "NODE", self._names[target])
        self._owners[slot] = target


class _Operator:
    """Sends commands to servers until success.

    Args:
        deadline: the end of all attempts, by the monotonic clock.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    async def run(self, server: RedisServer, *command: str | bytes | int) -> Any:
        """Run a command on a server that may be down or restarting."""
        while True:
            try:
                return await asyncio.to_thread(server.run, *command)
            except RedisError as error:
                if time.monotonic() > self._deadline:
                    told = " ".join(map(str, command[:4]))
                    raise LoadError(f"a slot cannot be moved: {told}: {error}") from None
            await asyncio.sleep(RETRY_SECONDS)

    async def keys(self, server: RedisServer, slot: int) -> list[bytes]:
        """Return a server's keys of a slot."""
        count = await self.run(server, "CLUSTER", "COUNTKEYSINSLOT", slot)
        found: list[bytes] = await self.run(server, "CLUSTER", "GETKEYSINSLOT", slot, count)
        return found

    async def migrate(self, source: RedisServer, target: RedisServer, keys: list[bytes]) -> None:
        """Move keys; a key may expire meanwhile."""
        # An attempt whose answer was lost may have left copies.
        to = ("127.0.0.1", target.port, "", 0, MIGRATE_MS, "REPLACE", "KEYS")
        for start in range(0, len(keys), KEYS_AT_ONCE):
            await self.run(source, "MIGRATE", *to, *keys[start : start + KEYS_AT_ONCE])
