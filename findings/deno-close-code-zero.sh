#!/usr/bin/env bash
# Deno 2.9.6: the `close` event of a WebSocket whose connection broke has the code 0.
#
# Expected (WebSocket standard): 1006, as browsers, undici and ws say. No close event of the standard has the code 0.
# Observed: 0 when the server's connection ends without a close frame, and 0 for a close frame with 1014 (bad gateway), a
# code that IANA has registered and that undici and ws hand on.
# It matters to who decides by the code: `code === 1006` never holds in Deno, and a check such as `code >= 1000` or a table
# of codes misses the commonest end of all. `wasClean` is right in all of them.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund deno@2.9.6 undici@7.30.2 ws@8.23.0
cat >server.mjs <<'JAVASCRIPT'
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (connection, request) => {
  if (request.url === "/broken") connection.terminate();
  else connection.close(Number(request.url.slice(1)), "why");
});
JAVASCRIPT
cat >client.mjs <<'JAVASCRIPT'
import process from "node:process";

const [name, port] = process.argv.slice(2);
const WebSocket = name === "deno" ? globalThis.WebSocket : (await import(name)).WebSocket;
const seen = [];
for (const path of ["broken", "1014", "1012"]) {
  seen.push(await new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/${path}`);
    socket.addEventListener("error", () => {});
    socket.addEventListener("close", ({ code, wasClean }) => resolve(`${path} ${code} ${wasClean ? "clean" : "not clean"}`));
  }));
}
console.log(`${name}: ${seen.join(", ")}`);
process.exit(0);
JAVASCRIPT
node server.mjs >port &
server=$!
for _ in $(seq 300); do [ -s port ] && break; sleep 0.1; done
port=$(cat port)
observed=$(for name in undici ws; do timeout 30 node client.mjs "$name" "$port"; done
    timeout 30 node_modules/.bin/deno run --allow-all client.mjs deno "$port")
node_modules/.bin/deno --version | head -1
echo "$observed"
[ "$observed" = "undici: broken 1006 not clean, 1014 1014 clean, 1012 1012 clean
ws: broken 1006 not clean, 1014 1014 clean, 1012 1012 clean
deno: broken 0 not clean, 1014 0 not clean, 1012 1012 clean" ]
