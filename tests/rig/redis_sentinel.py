"""A master, its replicas and their sentinels, for tests."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .ports import free_port
from .redis_server import READY_SECONDS, RedisServer, tls_options

SERVICE = "chat"
DOWN_AFTER_MS = 2_000
FAST = ("--repl-diskless-sync-delay", "0", "--repl-backlog-size", "1mb")


class SentinelTrio:
    """One master, one replica, three sentinels; every method blocks.

    Args:
        directory: the folder of the servers' files.
        certificate: enables TLS for clients and between the servers; the file includes the key.
        down_after_ms: milliseconds of silence after which the master is replaced.
    """

    def __init__(
        self, directory: Path, certificate: Path | None = None, down_after_ms: int = DOWN_AFTER_MS
    ) -> None:
        self._down_after_ms = down_after_ms
        self._directory = directory
        self._certificate = certificate
        self._tls_ports: dict[int, int] = {}
        self.servers = [self._server(*FAST) for _ in range(2)]
        self.sentinels: list[RedisServer] = []

    def _server(self, *arguments: str, config: Path | None = None) -> RedisServer:
        port = free_port()
        tls = tls_options(port, self._certificate)
        if tls:
            tls = (*tls, "--tls-replication", "yes")
        server = RedisServer(self._directory, *arguments, *tls, config=config)
        self._tls_ports[server.port] = port
        return server

    def port_of(self, server: RedisServer) -> int:
        """Return the port of a server for the other servers."""
        return self._tls_ports[server.port] if self._certificate else server.port

    @property
    def url(self) -> str:
        """The address of the service."""
        hosts = ",".join(f"127.0.0.1:{self.port_of(sentinel)}" for sentinel in self.sentinels)
        if self._certificate is None:
            return f"redis+sentinel://{hosts}/{SERVICE}"
        return f"rediss+sentinel://{hosts}/{SERVICE}?ssl_ca_certs={self._certificate}"

    def start(self) -> None:
        """Start all servers, and wait until the sentinels agree that they can fail over."""
        master, replica = self.servers
        for server in self.servers:
            server.start()
        replica.command("REPLICAOF", "127.0.0.1", str(self.port_of(master)))
        wait_for(lambda: b"state=online" in master.command("INFO", "replication"))
        for number in range(3):
            config = self._directory / f"sentinel-{number}.conf"
            config.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.port_of(master)} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {self._down_after_ms}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            sentinel = self._server(config=config)
            self.sentinels.append(sentinel)
            sentinel.start()
        for sentinel in self.sentinels:
            wait_for(partial(self._sees_all, sentinel))

    def stop(self) -> None:
        """End all servers."""
        for server in (*self.sentinels, *self.servers):
            server.resume()
            server.kill()

    def fail_over(self) -> None:
        """Let the sentinels promote the replica, as an operator does."""
        reply = self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
        assert reply == b"+OK\r\n", reply

    def master(self) -> RedisServer:
        """Return the master according to the first sentinel."""
        reply = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(s for s in self.servers if b"%d" % self.port_of(s) in reply)

    @staticmethod
    def _sees_all(sentinel: RedisServer) -> bool:
        reply = sentinel.command("SENTINEL", "MASTER", SERVICE)
        fields = reply.split(b"\r\n")
        values = {
            name: fields[fields.index(name) + 2]
            for name in (b"num-slaves", b"num-other-sentinels")
            if name in fields
        }
        return values == {b"num-slaves": b"1", b"num-other-sentinels": b"2"}


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition of started servers holds.

    Raises:
        RuntimeError: the condition does not hold in time.
    """
    deadline = time.monotonic() + 3 * READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the servers did not get ready")
        time.sleep(0.05)
