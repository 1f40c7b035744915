#!/usr/bin/env bash
# websockets 17.4 (Python) and websocket-ts 2.3.0: a client that comes back by itself does so without any growing pause while the server
# accepts it and closes at once, as with 1012 (service restart), 1013 (try again later) or an expired token.
#
# Expected: "async for websocket in connect(…)" reconnects "with exponential backoff", and so does the ExponentialBackoff of websocket-ts.
# Observed: both forget the pause when the handshake succeeds. websockets starts the next handshake at once, some hundred a second;
# websocket-ts always waits for the first step, here 100 ms. partysocket 1.3.0 counts a connection only when it has lasted for 5 s.
# It matters to servers that accept a WebSocket before they refuse it, since browsers see a close code only so: one client with an old token
# is a load. Sleep in the body of the loop after a close, as long as the close reason says or longer each time.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet websockets==17.4
npm install --silent --no-audit --no-fund websocket-ts@2.3.0 partysocket@1.3.0 ws@8.23.0
cat >loop.py <<'PYTHON'
import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main() -> None:
    async for websocket in connect(sys.argv[1]):
        try:
            await websocket.recv()
        except ConnectionClosed:
            continue


asyncio.run(main())
PYTHON
cat >count.mjs <<'JAVASCRIPT'
import { spawn } from "node:child_process";
import { WebSocket, WebSocketServer } from "ws";
import { ExponentialBackoff, WebsocketBuilder } from "websocket-ts";
import { WebSocket as PartySocket } from "partysocket";

globalThis.WebSocket = WebSocket;
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
await new Promise((resolve) => server.once("listening", resolve));
const url = `ws://127.0.0.1:${server.address().port}/`;
let accepted;
server.on("connection", (connection) => {
  accepted += 1;
  connection.on("error", () => {});
  connection.close(1013, "try again later");
});

const clients = {
  "websockets 17.4": () => {
    const client = spawn("python/bin/python", ["loop.py", url], { stdio: ["ignore", "inherit", "inherit"] });
    return () => client.kill();
  },
  "websocket-ts 2.3.0": () => {
    const client = new WebsocketBuilder(url).withBackoff(new ExponentialBackoff(100, 7)).build();
    return () => client.close();
  },
  "partysocket 1.3.0": () => {
    const client = new PartySocket(url, [], { WebSocket });
    return () => client.close();
  },
};
const counts = [];
for (const [name, start] of Object.entries(clients)) {
  accepted = 0;
  const stop = start();
  await new Promise((resolve) => setTimeout(resolve, 8000));
  stop();
  counts.push(accepted);
  console.log(`${name}: ${accepted} connections in 8 s, each closed with 1013`);
}
// With pauses of 100 ms that double there is time for seven connections in 8 s.
process.exit(counts[0] > 50 && counts[1] > 10 && counts[2] < 7 ? 0 : 1);
JAVASCRIPT
node count.mjs
