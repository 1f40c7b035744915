#!/usr/bin/env bash
# Bun 1.4.5: after a lost connection its built-in RedisClient connects again, and is subscribed to nothing.
#
# Expected: as ioredis 6.0.0 and redis (node-redis) 6.3.1 do, a subscriber that connects again by itself subscribes again by itself.
# Observed: the client is back within a moment, `connected` is true and PUBLISH reaches nobody. `onclose` was not called.
# It matters to who moves a subscriber from Node to Bun: after the first restart of Redis it is silent for good, and looks healthy. Subscribe in
# `onconnect`, which is called for each connection.
# Exits with 1 when that changes, and with 77 without npm and redis-server.
set -euo pipefail
for program in npm redis-server; do command -v "$program" >/dev/null || { echo "$program is missing"; exit 77; }; done
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund bun@1.4.5 ioredis@6.0.0 redis@6.3.1
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --save "" --dir "$folder" >redis.log &
server=$!
cat >subscribe.mjs <<'JAVASCRIPT'
import Redis from "ioredis";
import { createClient } from "redis";

const port = Number(process.argv[2]);
const url = `redis://127.0.0.1:${port}`;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const publisher = new Redis({ port });
const connections = { bun: 0, closed: 0 };

/** Start a subscriber to `news` that puts messages into `got`; return what tells whether it is connected. */
const libraries = {
  "Bun's RedisClient": async (got) => {
    const { RedisClient } = await import("bun");
    const client = new RedisClient(url);
    client.onconnect = () => (connections.bun += 1);
    client.onclose = () => (connections.closed += 1);
    await client.connect();
    await client.subscribe("news", (message) => got.push(message));
    return () => client.connected;
  },
  ioredis: async (got) => {
    const client = new Redis({ port });
    client.on("error", () => {});
    client.on("message", (_, message) => got.push(message));
    await client.subscribe("news");
    return () => client.status === "ready";
  },
  redis: async (got) => {
    const client = createClient({ url });
    client.on("error", () => {});
    await client.connect();
    await client.subscribe("news", (message) => got.push(message));
    return () => client.isReady;
  },
};
const seen = [];
for (const [name, start] of Object.entries(libraries)) {
  const got = [];
  const connected = await start(got);
  await pause(300);
  await publisher.publish("news", "before");
  await pause(300);
  await publisher.client("KILL", "TYPE", "pubsub");
  // Each comes back within a second or two; half a minute is for a busy machine.
  for (let round = 0; round < 60 && got.length < 2 && (round < 10 || name !== "Bun's RedisClient"); round += 1) {
    await pause(500);
    if (connected()) await publisher.publish("news", "after");
  }
  seen.push(got.slice(0, 2).join(", "));
  console.log(`${name}: got ${got.slice(0, 2).join(", ")}; connected: ${connected()}`);
}
console.log(`Bun ${Bun.version}: onconnect was called ${connections.bun} times, onclose ${connections.closed} times`);
const asDescribed = seen.join("; ") === "before; before, after; before, after" && connections.bun > 0 && connections.closed === 0;
process.exit(asDescribed ? 0 : 1);
JAVASCRIPT
node_modules/.bin/bun subscribe.mjs "$port"
