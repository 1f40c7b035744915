"""The examples of docs/browser.md work, in Node against a real server."""

import json
import re
import subprocess
from pathlib import Path

from ..docs.markdown import ROOT, blocks
from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint

HERE = Path(__file__).parent
IMPORT = re.compile(r'^import \{ (.*) \} from "/static/client.js";\n', re.MULTILINE)

BEFORE = """
import { ChatClient, Messages } from "./client.js";
import { Faults, faultyWebSocket, generator } from "./faulty_socket.mjs";

const [url, token] = process.argv.slice(2);
const calm = Object.assign(new Faults(generator(1), 0), { active: false });
globalThis.WebSocket = faultyWebSocket(calm);
const stored = new Map();
globalThis.localStorage = {
  getItem: (name) => stored.get(name) ?? null,
  setItem: (name, value) => stored.set(name, value),
};
const realFetch = globalThis.fetch;
globalThis.fetch = (address, ...more) =>
  address === "/chat-token" ? Promise.resolve(new Response(token)) : realFetch(address, ...more);
const chat = new ChatClient({ url, token });
const shown = [];
setTimeout(() => {
  console.error("it hangs, and has shown", shown);
  process.exit(1);
}, 200_000);
const show = (what) => shown.push(what);
const until = async (condition) => {
  while (!condition()) await new Promise((wake) => setTimeout(wake, 10));
};
async function* answer() {
  yield* ["Because ", "of ", "Rayleigh."];
}
await chat.publish("room:news", { text: "news" });
await new Promise((onReady) => chat.subscribe("room:lobby", { onReady }));
"""

AFTER = """
await until(() => shown.length >= SHOWN.length);
const { messages } = await chat.history("room:lobby");
console.log(JSON.stringify({ shown: shown.map(String), messages }));
process.exit();
"""

WAITS = {
    "chat.typing(": "await until(() => typing.size === 1);",
}
"""What shows that an example works, if nothing that follows does: by what it contains."""

ELSEWHERE = {"In a worker", "In Node and Deno"}
"""Headings of examples that tests/web/test_client.py and tests/packaging/test_npm.py run."""

SHOWN = [
    *("connecting", "online", "closed: the client is closed"),
    *("an entry", "It is stored once.", "1 messages of fruit"),
    *("The poem is to end.", "alice plays e4"),
    *("0 unread", "1: Alice", "news", "an order", "loading what 0 events have made"),
    "method: there is no method 'roll'",
]


def test_every_example_works(tmp_path: Path) -> None:
    document = blocks((ROOT / "docs/browser.md").read_text("utf-8"))
    # The first one needs a browser: tests/web/test_documents.py.
    examples = [b.text for b in document if b.kind == "js" and b.heading not in ELSEWHERE][1:]
    parts = [
        "{" + IMPORT.sub("", example) + "".join(WAITS[w] for w in WAITS if w in example) + "}"
        for example in examples
    ]
    imported = {name for example in examples for name in IMPORT.findall(example)}
    assert imported == {"Messages"}
    with ServerProcess(environ={"CHAT_NAMESPACES__ROOM__PRESENCE": "true"}) as server:
        script = "\n".join([BEFORE, *parts, AFTER.replace("SHOWN", json.dumps(SHOWN))])
        script = script.replace("ws://127.0.0.1:8000/ws", server.ws_url)
        (tmp_path / "examples.mjs").write_text(script, "utf-8")
        copy_client(tmp_path, HERE / "faulty_socket.mjs")
        done = subprocess.run(
            [node(), "examples.mjs", server.ws_url, mint("alice", name="Alice")],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert sorted(said["shown"]) == sorted(SHOWN)
    changed, grown = said["messages"]
    assert (changed["deleted"], changed["data"]) == (True, None)
    assert (grown["data"], grown["state"]) == ({"text": "Because of Rayleigh."}, "complete")
