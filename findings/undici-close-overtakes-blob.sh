#!/usr/bin/env bash
# undici 6.29.1 and 7.30.2 (the WebSocket of Node 22 and later): close() right after send() of a Blob loses the Blob, and
# all messages that were sent after it.
#
# Expected (WebSocket standard): what send() took before close() is sent before the close frame, as ws, Deno and Bun do.
# Observed: the bytes of a Blob are read asynchronously, and later messages wait for them. The close frame does not wait: the
# server gets no message, and both sides see a clean close with code 1005, so nothing tells of the loss.
# It matters to who uploads and hangs up, or ends a session with a last text behind a Blob: send `await blob.arrayBuffer()`
# instead, which undici sends at once.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund old@npm:undici@6.29.1 recent@npm:undici@7.30.2 ws@8.23.0
cat >send.mjs <<'JAVASCRIPT'
import * as old from "old";
import * as recent from "recent";
import * as ws from "ws";

const server = new ws.WebSocketServer({ host: "127.0.0.1", port: 0 });
await new Promise((resolve) => server.once("listening", resolve));

/** Send `first` and a text, close, and tell what the server got until the connection was closed. */
function got(WebSocket, first) {
  return new Promise((resolve, reject) => {
    setTimeout(reject, 30_000, new Error("the connection was not closed")).unref();
    server.once("connection", (connection) => {
      const sizes = [];
      connection.on("message", (data) => sizes.push(data.length));
      connection.on("close", (code) => resolve(`[${sizes}] and close ${code}`));
    });
    const socket = new WebSocket(`ws://127.0.0.1:${server.address().port}/`);
    socket.addEventListener("open", () => {
      socket.send(first);
      socket.send("last");
      socket.close();
    });
  });
}

const blob = new Blob(["x".repeat(1000)]);
const libraries = { "undici 6.29.1": old, "undici 7.30.2": recent, "ws 8.23.0": ws };
let asDescribed = true;
for (const [name, library] of Object.entries(libraries)) {
  const ofBlob = await got(library.WebSocket, blob);
  const ofBytes = await got(library.WebSocket, await blob.arrayBuffer());
  console.log(`${name}: a Blob of 1000 bytes, "last": ${ofBlob}; an ArrayBuffer, "last": ${ofBytes}`);
  const whole = "[1000,4] and close 1005";
  const expected = library === ws ? whole : "[] and close 1005";
  asDescribed &&= ofBlob === expected && ofBytes === whole;
}
process.exit(asDescribed ? 0 : 1);
JAVASCRIPT
node send.mjs
