"""What proxies do to a request by default: the table of docs/proxies.md, looked at from behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ..rig.ports import free_port
from ..rig.waiting import SECONDS
from .markdown import code, section, tables
from .proxies import APACHE_MODULES, NGINX, PAGE, PROXIES, running_file
from .test_proxies import FROM_REGISTRIES

BARE = {
    "nginx": NGINX
    % "server { listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:SERVER; } }",
    "HAProxy": """
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend web
    bind 127.0.0.1:PORT
    default_backend chat
backend chat
    server chat-1 127.0.0.1:SERVER
""",
    "Apache": 'Listen 127.0.0.1:PORT\nProxyPass "/" "http://127.0.0.1:SERVER/"\n',
    "Varnish": 'vcl 4.1; backend chat { .host = "127.0.0.1"; .port = "SERVER"; }',
    "Caddy": "{\nadmin off\ndefault_bind 127.0.0.1\n}\n:PORT {\nreverse_proxy 127.0.0.1:SERVER\n}",
    "Envoy": """
static_resources:
  listeners:
    - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: chat
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - {name: chat, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: chat}}]}
  clusters:
    - name: chat
      load_assignment:
        cluster_name: chat
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: SERVER}}}
""",  # noqa: E501
}  # fmt: skip
"""What one writes first, as the manuals of the proxies do."""

TABLE, _ = tables(section(PAGE.read_text("utf-8"), "What happens without them"))
HELD_SECONDS = 2.0
FORGED = "192.0.2.1"
LONG = 8_192


@dataclass
class Backend:
    """A server that keeps the heads of requests, and answers in two parts."""

    heads: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                # HTTP/1.0 knows no chunks: the answer ends with the connection.
                chunked = "HTTP/1.0" not in head.splitlines()[0]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
                writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
                writer.write(b"6\r\nfirst\n\r\n" if chunked else b"first\n")
                await self.go_on.wait()
                writer.write(b"7\r\nsecond\n\r\n0\r\n\r\n" if chunked else b"second\n")
                if not chunked:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def header(self, name: str) -> str:
        """Return the header of the last request, or nothing."""
        found = [
            line.partition(":")[2].strip()
            for line in self.heads[-1].splitlines()
            if line.lower().startswith(f"{name.lower()}:")
        ]
        return ", ".join(found)


@asynccontextmanager
async def behind(name: str, folder: Path) -> AsyncIterator[tuple[Backend, int]]:
    """Run a proxy as it is without our page in front of a backend; yield this and its port."""
    proxy = replace(
        PROXIES[name], arguments=PROXIES[name].arguments.replace("-p http_req_hdr_len=16k", "")
    )
    if proxy.path is None:
        pytest.skip(f"{proxy.program} is not installed")
    backend, port = Backend(), free_port()
    async with await asyncio.start_server(backend.serve, "127.0.0.1", 0) as server:
        own = server.sockets[0].getsockname()[1]
        text = BARE[name].replace("PORT", str(port)).replace("SERVER", str(own))
        if name == "Apache":
            text = proxy.before.format(folder=folder, modules=APACHE_MODULES) + text
        manager = running_file(proxy, folder, port, text)
        await asyncio.to_thread(manager.__enter__)
        try:
            yield backend, port
        finally:
            backend.go_on.set()
            await asyncio.to_thread(manager.__exit__, None, None, None)


async def ask(port: int, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request, and leave the answer to be read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = ("GET /x HTTP/1.1", "Host: chat.example.org", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    return reader, writer


async def status(port: int, *headers: str) -> int:
    """Return the status of the answer to a request."""
    reader, writer = await ask(port, *headers)
    async with asyncio.timeout(SECONDS):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[pytest.mark.extra] if row["proxy"] in FROM_REGISTRIES else [])
        for row in TABLE
        if row["proxy"] in BARE
    ],
    ids=lambda row: row["proxy"],
)
async def test_the_table_says_what_the_server_sees(row: dict[str, str], tmp_path: Path) -> None:
    async with behind(row["proxy"], tmp_path) as (backend, port):
        held = "held back" in row["an answer in parts"]
        reader, writer = await ask(port, f"X-Forwarded-For: {FORGED}")
        try:
            async with asyncio.timeout(HELD_SECONDS if held else SECONDS):
                await reader.readuntil(b"first\n")
            assert not held
        except TimeoutError:
            assert held
        backend.go_on.set()
        writer.close()
        kept = backend.header("Host") == "chat.example.org"
        assert row["`Host`"] == ("passed on" if kept else "replaced")
        assert row["forged `X-Forwarded-For`"] == _forwarded(backend.header("X-Forwarded-For"))

        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        refused = await status(port, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        passed = "passed on" if backend.header("Upgrade").lower() == "websocket" else "lost"
        assert row["`Upgrade`"] == (passed if refused == 200 else str(refused))

        long = await status(port, f"Authorization: Bearer {'x' * LONG}")
        assert row["a token of 8,192 bytes"] == ("passed on" if long == 200 else str(long))


def _forwarded(value: str) -> str:
    addresses = [address.strip() for address in value.split(",")]
    if addresses[-1] == FORGED:
        return "believed"
    return "appended to" if FORGED in addresses else "replaced"


def test_the_table_has_every_proxy_of_the_page() -> None:
    assert [row["proxy"] for row in TABLE] == [*PROXIES, "Traefik"]
    assert all(code(row["idle WebSocket ends after"]) != [] for row in TABLE)
