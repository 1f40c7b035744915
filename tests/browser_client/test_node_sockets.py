"""The browser client with the WebSocket classes that docs/browser.md names, and in Deno and Bun."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint

ROOT = Path(__file__).parents[2]
PACKAGES = ["ws@8", "undici@6", "deno@2", "bun@1"]

SCRIPT = """
import { ChatClient } from "./client.js";

const [url, token, name] = process.argv.slice(2);
const { WebSocket } = name === "global" ? globalThis : await import(name);
const reports = [];
console.error = (error) => reports.push(error.message);
const ended = (options, end) => new Promise((resolve) => {
  let told = "";
  const onState = (state, { error }) => {
    if (state === "closed") resolve(told);
    else if (error) told = error.message === "no answer" ? "too late" : "told at once";
    if (state === end) client.dispose();
  };
  const client = new ChatClient({ url, token, WebSocket, ...options, onState });
  if (end === "now") client.dispose();
});

const chat = new ChatClient({ url, token, WebSocket });
const heard = new Promise((resolve) => {
  const onEvent = (event) => {
    resolve(event.data.text);
    throw new Error("thrown");
  };
  chat.subscribe("room:socket", { onEvent });
});
await chat.publish("room:socket", { text: "hello" });
console.log(await heard);
// An attempt that fails is not waited for as long as one without any answer.
console.log(await ended({ url: "ws://127.0.0.1:1/ws" }, "reconnecting"));
await ended({}, "now");
await ended({ token: () => new Promise(() => {}) }, "now");
chat.close();
console.log(reports.join());
"""
SAID = "hello\ntold at once\nthrown\n"


def _named() -> set[str]:
    page = (ROOT / "docs" / "browser.md").read_text("utf-8")
    return set(re.findall(r'import \{ WebSocket \} from "(\w+)"', page))


@pytest.mark.extra
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
@pytest.mark.timeout(600)  # npm installs Deno and Bun, of 90 MB each
def test_the_classes_and_the_runtimes(tmp_path: Path) -> None:
    copy_client(tmp_path)
    assert _named() == {"ws", "undici"}
    # With their scripts: Bun's brings its program.
    install = ["npm", "install", "--no-audit", "--no-fund", *PACKAGES]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    (tmp_path / "talk.js").write_text(SCRIPT, "utf-8")
    programs = tmp_path / "node_modules" / ".bin"
    runs: dict[str, list[str | Path]] = {
        "ws": [node()],
        "undici": [node()],
        "Deno": [programs / "deno", "run", "--allow-net", "--no-config", "--no-lock"],
        "Bun": [programs / "bun"],
    }
    with ServerProcess() as server:
        for name, program in runs.items():
            package = name if name in _named() else "global"
            # Each ends by itself: nothing of the client is left.
            said = subprocess.run(
                [*program, "talk.js", server.ws_url, mint("node"), package],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert (said.stdout, said.stderr) == (SAID, ""), name
