"""The examples of docs/browser.md that follow the first one work, in Node against a real server."""

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
const chat = new ChatClient({ url, token, WebSocket: faultyWebSocket(calm) });
const shown = [];
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
await until(() => shown.length >= 6);
const { messages } = await chat.history("room:lobby");
console.log(JSON.stringify({ shown, messages }));
process.exit();
"""

WAITS = {"chat.typing(": "await until(() => typing.size === 1);"}
"""What shows that an example works, if it shows nothing itself: by what it contains."""


def test_the_examples_about_messages(tmp_path: Path) -> None:
    document = blocks((ROOT / "docs/browser.md").read_text("utf-8"))
    examples = [block.text for block in document if block.kind == "js"][2:]  # behind the tokens
    assert len(examples) == 8
    parts = [
        "{" + IMPORT.sub("", example) + "".join(WAITS[w] for w in WAITS if w in example) + "}"
        for example in examples
    ]
    imported = {name for example in examples for name in IMPORT.findall(example)}
    assert imported == {"Messages"}
    (tmp_path / "examples.mjs").write_text("\n".join([BEFORE, *parts, AFTER]), "utf-8")
    copy_client(tmp_path, HERE / "faulty_socket.mjs")
    with ServerProcess(environ={"CHAT_NAMESPACES__ROOM__PRESENCE": "true"}) as server:
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
    assert sorted(said["shown"], key=str) == [
        *("0 unread", "1: Alice", ["news"], "an order", "loading what 0 events have made"),
        "method: there is no method 'roll'",
    ]
    changed, grown = said["messages"]
    assert (changed["deleted"], changed["data"]) == (True, None)
    assert (grown["data"], grown["state"]) == ({"text": "Because of Rayleigh."}, "complete")
