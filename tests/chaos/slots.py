"""The slots of a Redis Cluster, and an operator who moves them and leaves none half moved."""

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
"""How long a server that migrates keys stands still at most because the other one does."""

KEYS_AT_ONCE = 100
MOVE_SECONDS = 60.0
RETRY_SECONDS = 0.1


class Slots:
    """Which master has the slot of each topic, and the operator who moves them.

    Args:
        cluster: runs; its nodes are masters without replicas.
        topics: those whose slots are moved.
    """

    def __init__(self, cluster: RedisCluster, topics: Sequence[str]) -> None:
        self._servers = cluster.nodes
        self._owners = {key_slot(topic.encode()): cluster.owner(topic) for topic in topics}
        self._names = {node: node.run("CLUSTER", "MYID").decode() for node in cluster.nodes}

    def spread(self) -> list[int]:
        """Return how many of the topics' slots each server has."""
        counts = Counter(self._owners.values())
        return [counts[server] for server in self._servers]

    def server_of(self, topic: str) -> RedisServer:
        """Return the master that has a topic's slot."""
        return self._owners[key_slot(topic.encode())]

    async def move(self, seconds: float, rng: random.Random) -> None:
        """Move a topic's slot to the other master that has the fewest, while it is in use.

        Whatever strikes the two servers meanwhile, it is carried on until the slot is whole again.

        Args:
            seconds: how long the slot stands half moved on purpose.
            rng: draws the slot, and where the pauses are.

        Raises:
            LoadError: it cannot be moved.
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
    """Has servers do what they are told, however often they have to be told.

    Args:
        deadline: on the monotonic clock, when the operator gives up.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    async def run(self, server: RedisServer, *command: str | bytes | int) -> Any:
        """Run a command on a server that may be away, or not have come back yet."""
        while True:
            try:
                return await asyncio.to_thread(server.run, *command)
            except RedisError as error:
                if time.monotonic() > self._deadline:
                    told = " ".join(map(str, command[:4]))
                    raise LoadError(f"a slot cannot be moved: {told}: {error}") from None
            await asyncio.sleep(RETRY_SECONDS)

    async def keys(self, server: RedisServer, slot: int) -> list[bytes]:
        """Return what a server still has of a slot."""
        count = await self.run(server, "CLUSTER", "COUNTKEYSINSLOT", slot)
        found: list[bytes] = await self.run(server, "CLUSTER", "GETKEYSINSLOT", slot, count)
        return found

    async def migrate(self, source: RedisServer, target: RedisServer, keys: list[bytes]) -> None:
        """Move keys; what expires meanwhile is no matter."""
        # An attempt whose answer was lost may have left copies.
        to = ("127.0.0.1", target.port, "", 0, MIGRATE_MS, "REPLACE", "KEYS")
        for start in range(0, len(keys), KEYS_AT_ONCE):
            await self.run(source, "MIGRATE", *to, *keys[start : start + KEYS_AT_ONCE])
