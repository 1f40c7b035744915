"""The WebSocket classes that docs/browser.md names for Node 20 carry the browser client."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint

ROOT = Path(__file__).parents[2]

SCRIPT = """
import { WebSocket } from "PACKAGE";
import { ChatClient } from "./client.js";

const [url, token] = process.argv.slice(2);
const chat = new ChatClient({ url, token, WebSocket });
const heard = new Promise((resolve) => {
  chat.subscribe("room:PACKAGE", { last: 1, onEvent: resolve });
});
await chat.publish("room:PACKAGE", { text: "hello" });
console.log((await heard).data.text);
chat.close();
"""


def _named() -> list[str]:
    page = (ROOT / "docs" / "browser.md").read_text("utf-8")
    return re.findall(r'import \{ WebSocket \} from "(\w+)"', page)


@pytest.mark.extra
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_classes_for_node(tmp_path: Path) -> None:
    copy_client(tmp_path)
    packages = {"ws": "ws@8", "undici": "undici@6"}
    assert sorted(_named()) == sorted(packages)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages.values()]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    with ServerProcess() as server:
        for name in packages:
            (tmp_path / f"{name}.js").write_text(SCRIPT.replace("PACKAGE", name), "utf-8")
            said = subprocess.run(
                [node(), f"{name}.js", server.ws_url, mint("node")],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert (said.stdout, said.stderr) == ("hello\n", ""), name
