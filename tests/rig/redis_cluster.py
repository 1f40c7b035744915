"""A Redis Cluster of three masters, for tests."""

from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from .ports import free_port
from .redis_sentinel import wait_for
from .redis_server import RedisServer, tls_options

NODE_TIMEOUT_MS = 15_000
"""A busy machine keeps a node waiting for seconds, which then is no failure."""

FAILING_MS = 2_000
"""The `node_timeout_ms` of a cluster whose nodes are meant to fail."""


class RedisCluster:
    """Three masters that share the slots; every method blocks.

    Args:
        directory: the folder of the nodes' files.
        certificate: enables TLS for clients; the file includes the key.
        node_timeout_ms: milliseconds of silence after which the other nodes regard a node as
            failed.
        durable: True writes every command to disk before the answer.
    """

    def __init__(
        self,
        directory: Path,
        certificate: Path | None = None,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        *,
        durable: bool = False,
    ) -> None:
        self._durable = durable
        self._node_timeout_ms = node_timeout_ms
        self._certificate = certificate
        self._tls_ports: dict[int, int] = {}
        self._buses: dict[int, int] = {}
        self._announced: dict[int, int] = {}
        self.nodes: list[RedisServer] = []
        for number in range(3):
            folder = directory / f"node-{number}"
            folder.mkdir()
            self.nodes.append(self._node(folder))

    def _node(self, folder: Path) -> RedisServer:
        # By default it is 10,000 above the other one: among those of outgoing connections.
        bus, tls_port = free_port(), free_port()
        node = RedisServer(
            folder,
            *("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"),
            *("--cluster-node-timeout", str(self._node_timeout_ms), "--cluster-port", str(bus)),
            *("--repl-diskless-sync-delay", "0", *tls_options(tls_port, self._certificate)),
            *(("--tls-cluster", "yes") if self._certificate else ()),
            durable=self._durable,
        )
        self._buses[node.port] = bus
        self._announced[node.port] = node.port
        self._tls_ports[node.port] = tls_port
        return node

    def announce(self, node: RedisServer, port: int) -> None:
        """Let clients reach a node on another port, before the node is started."""
        self._announced[node.port] = port
        node.configure(
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(port)),
            *("--cluster-announce-bus-port", str(self._buses[node.port])),
        )

    def _meet(self, node: RedisServer, other: RedisServer) -> None:
        self.run(node, "CLUSTER", "MEET", "127.0.0.1", other.port, self._buses[other.port])

    @property
    def url(self) -> str:
        """The address of the cluster with two of its nodes; clients find the third node through
        them.
        """
        ports = [self._announced[node.port] for node in self.nodes[:2]]
        if self._certificate is None:
            return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        hosts = ",".join(f"127.0.0.1:{self._tls_ports[port]}" for port in ports)
        return f"rediss+cluster://{hosts}?ssl_ca_certs={self._certificate}"

    def start(self) -> None:
        """Start the nodes, join them, and wait until all nodes agree that the cluster works."""
        for node in self.nodes:
            node.start()
        self.form()

    def form(self) -> None:
        """Join running nodes, and wait until all nodes agree that the cluster works."""
        share = -(-SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            first, last = number * share, min(SLOTS, (number + 1) * share) - 1
            self.run(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self.run(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self._meet(self.nodes[0], node)
        self.wait_until_ok()

    def wait_until_ok(self) -> None:
        """Wait until every node regards the cluster as complete."""
        for node in self.nodes:
            wait_for(partial(self._is_ok, node))

    def stop(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.resume()
            node.kill()

    def add_replica(self, master: RedisServer, folder: Path) -> RedisServer:
        """Start one more node as a replica of `master`, and wait until it has caught up."""
        replica = self._node(folder)
        replica.start()
        self._meet(replica, master)
        name = self._id(master).encode()
        wait_for(lambda: name in replica.command("CLUSTER", "NODES"))
        self.run(replica, "CLUSTER", "REPLICATE", name)
        self.nodes.append(replica)
        wait_for(lambda: b"state=online" in master.command("INFO", "replication"))
        own = self._id(replica).encode()
        for node in self.nodes:
            wait_for(partial(self._follows, node, own, name))
        return replica

    def owner(self, topic: str) -> RedisServer:
        """Return the node that serves a topic, according to the first running node."""
        slot = key_slot(topic.encode())
        for first, last, master, *_ in self.run(self.nodes[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if self._announced[node.port] == master[1])
        raise LookupError(topic)

    def begin_move(self, topic: str, to: RedisServer) -> None:
        """Begin to migrate a topic's slot."""
        slot, source = key_slot(topic.encode()), self.owner(topic)
        self.run(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.run(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))

    def end_move(self, topic: str, to: RedisServer) -> None:
        """Migrate the keys of the topic's slot, and assign the slot to its new owner."""
        slot, source = key_slot(topic.encode()), self.owner(topic)
        while keys := self.run(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.run(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", *keys)
        # Once each: a node that is told a second time ends the subscriptions in the slot anew.
        for node in dict.fromkeys((to, source, *self.nodes)):
            self.run(node, "CLUSTER", "SETSLOT", slot, "NODE", self._id(to))

    @staticmethod
    def run(node: RedisServer, *command: str | bytes | int) -> Any:
        """Run one command on a node and return the parsed reply."""
        return node.run(*command)

    def _id(self, node: RedisServer) -> str:
        name: bytes = self.run(node, "CLUSTER", "MYID")
        return name.decode()

    @staticmethod
    def _follows(node: RedisServer, replica: bytes, master: bytes) -> bool:
        lines = node.command("CLUSTER", "NODES").splitlines()
        return any(line.startswith(replica) and b"slave " + master in line for line in lines)

    def _is_ok(self, node: RedisServer) -> bool:
        ports = {master[1] for _, _, master, *_ in node.run("CLUSTER", "SLOTS")}
        reply = node.command("CLUSTER", "INFO")
        return (
            b"cluster_state:ok" in reply
            and b"cluster_known_nodes:3" in reply
            and b"cluster_slots_ok:16384" in reply
            and ports <= set(self._announced.values())
        )
