"""What people bundle the npm package with: each builds a program, which then talks to a server."""

import shutil
from pathlib import Path

import pytest

from ..rig.node import node
from ..rig.server import ServerProcess, mint
from .programs import run

pytestmark = pytest.mark.extra

HERE = Path(__file__).parent

BUNDLERS = {
    "vite": ["vite@8"],
    "rollup": ["rollup@4", "@rollup/plugin-node-resolve@16"],
    "webpack": ["webpack@5"],
    "rspack": ["@rspack/core@2"],
    "parcel": ["parcel@2"],
}

TALK = """
import { ChatClient } from "quart-chat-client";

const [url, token] = process.argv.slice(2);
const chat = new ChatClient({ url, token });
const heard = new Promise((onEvent) => chat.subscribe("room:npm", { last: 1, onEvent }));
// Without `await` at the top: Parcel wraps modules in functions that may have none.
Promise.all([heard, chat.publish("room:npm", "hello")]).then(([{ data }]) => {
  console.log(data);
  chat.close();
});
"""
BROWSER = 'import { WebSocket } from "ws";\nglobalThis.WebSocket = WebSocket;\n'

PROGRAM = """
import { ChatClient, type ChatEvent } from "quart-chat-client";

const chat = new ChatClient({ url: "ws://localhost/ws", token: "t" });
chat.subscribe("room:a", { onEvent: (event: ChatEvent) => void event.type });
"""


@pytest.mark.timeout(400)  # npm installs one bundler after the other
@pytest.mark.parametrize("name", BUNDLERS)
def test_a_bundle_talks(name: str, packed: Path, tmp_path: Path) -> None:
    install(tmp_path, packed, "ws@8", *BUNDLERS[name])
    (tmp_path / "talk.js").write_text(TALK)
    (tmp_path / "browser.mjs").write_text(BROWSER)
    shutil.copy(HERE / "bundle.mjs", tmp_path)
    run(node(), "bundle.mjs", name, cwd=tmp_path, seconds=120)
    made = tmp_path / name / "talk.mjs"
    assert "quart-chat-client" not in made.read_text("utf-8").partition("import")[2][:200]
    with ServerProcess() as server:
        arguments: list[str | Path] = ["--import", "./browser.mjs", made]
        arguments += [server.ws_url, mint("node")]
        assert run(node(), *arguments, cwd=tmp_path) == "hello\n"


@pytest.mark.timeout(400)
def test_typescript_5_finds_the_types_by_every_resolution(packed: Path, tmp_path: Path) -> None:
    install(tmp_path, packed, "typescript@5")
    (tmp_path / "program.mts").write_text(PROGRAM)
    flags = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022"]
    tsc = tmp_path / "node_modules" / ".bin" / "tsc"
    for module, resolution in (
        ("node16", "node16"),
        ("nodenext", "nodenext"),
        ("esnext", "bundler"),
        ("esnext", "node10"),
    ):
        module_flags = ["--module", module, "--moduleResolution", resolution]
        run(tsc, *flags, *module_flags, "program.mts", cwd=tmp_path)


def install(folder: Path, *packages: str | Path) -> None:
    """Install packages from npm into a folder, without their scripts."""
    (folder / "package.json").write_text('{"type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    run(*command, *map(str, packages), cwd=folder, seconds=300)
