#!/usr/bin/env bash
# undici 6.29.1, whose WebSocket is that of Node 22, tells of a failed attempt by `error` alone.
#
# Expected: `error` and then `close` with code 1006, as the WebSocket standard ("fail the WebSocket
# connection") says, and as browsers, undici 7 and ws do.
# Observed: when nobody listens at the address, `close` never comes. A client that tries again at
# `close` waits for its own time-out, or for ever. Look at `error` as well while you are connecting.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || exit 77
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund old@npm:undici@6.29.1 new@npm:undici@7.30.2 ws@8.23.0
cat > try.mjs <<'JS'
import net from "node:net";
import * as ws from "ws";
import * as old from "old";
import * as recent from "new";

const listener = net.createServer().listen(0, "127.0.0.1");
await new Promise((resolve) => listener.once("listening", resolve));
const { port } = listener.address();
await new Promise((resolve) => listener.close(resolve)); // now nobody listens there

function told(WebSocket) {
  return new Promise((resolve) => {
    const events = [];
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    socket.addEventListener("error", () => events.push("error"));
    socket.addEventListener("close", (event) => events.push(`close ${event.code}`));
    setTimeout(() => resolve(events.join(", ")), 3_000);
  });
}

const seen = {
  "undici 6.29.1": await told(old.WebSocket),
  "undici 7.30.2": await told(recent.WebSocket),
  "ws 8.23.0": await told(ws.WebSocket),
};
console.log(seen);
const [first, second, third] = Object.values(seen);
process.exit(first === "error" && second === "error, close 1006" && third === "error, close 1006" ? 0 : 1);
JS
node try.mjs
