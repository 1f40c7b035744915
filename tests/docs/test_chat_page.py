"""docs/page.md: its applications give tokens, in Quart and in Express."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..rig.node import environment, node
from ..rig.server import ServerProcess
from .markdown import ROOT, blocks
from .walk import SECONDS

BLOCKS = {block.kind: block.text for block in blocks((ROOT / "docs/page.md").read_text("utf-8"))}
SECRET = "0123456789abcdef" * 2

SIGN_IN = """
app.post("/login", (request, response) => {
  request.session.user = "7";
  response.sendStatus(204);
});
"""
VISIT = """
import http from "node:http";

// The application takes a port that is free.
const { listen } = http.Server.prototype;
const listening = new Promise((resolve) => {
  http.Server.prototype.listen = function (port, host) {
    return listen.call(this, 0, host, () => resolve(this));
  };
});
await import("./app.js");
const application = `http://127.0.0.1:${(await listening).address().port}`;
const ask = (path, headers = {}) => fetch(application + path, { method: "POST", headers });

const stranger = await ask("/chat-token");
const [cookie] = (await ask("/login")).headers.get("set-cookie").split(";");
const answer = await ask("/chat-token", { cookie });
const headers = { authorization: `Bearer ${await answer.text()}` };
const message = { method: "POST", headers, body: '{"data": "hello"}' };
const stored = await fetch(process.argv[2], message);
console.log(stranger.status, answer.headers.get("cache-control"), stored.status);
process.exit();
"""


def test_the_application_in_quart_gives_tokens_to_who_is_signed_in() -> None:
    probe = """
async def main() -> None:
    client = app.test_client()
    assert (await client.post("/chat-token")).status_code == 401
    async with client.session_transaction() as standing:
        standing["user"] = "7"
    answer = await client.post("/chat-token")
    assert answer.headers["Cache-Control"] == "no-store"
    settings = load_settings()
    verifier = ChatServer(settings).verifier
    claims = await verifier.verify(await answer.get_data(as_text=True))
    assert claims.sub == "7"

import asyncio
from chat_server import ChatServer, load_settings
asyncio.run(main())
"""
    environ = {
        "CHAT_ENVIRONMENT": "production",
        "CHAT_AUTH__SECRET": SECRET,
        "SESSION_SECRET": SECRET,
    }
    command = [sys.executable, "-c", BLOCKS["python"] + probe]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, timeout=SECONDS)


def test_the_application_in_express_is_a_module(tmp_path: Path) -> None:
    module = tmp_path / "app.mjs"
    module.write_text(BLOCKS["js"], "utf-8")
    subprocess.run(["node", "--check", str(module)], check=True, timeout=SECONDS)


@pytest.mark.extra
@pytest.mark.timeout(300)  # npm installs Express
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_application_in_express_gives_tokens_to_who_is_signed_in(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    packages = ["express@5", "express-session@1", "jsonwebtoken@9"]
    subprocess.run(
        [*install, *packages], cwd=tmp_path, check=True, capture_output=True, timeout=200
    )
    application, listening = BLOCKS["js"].split("app.listen(")
    (tmp_path / "app.js").write_text(f"{application}{SIGN_IN}app.listen({listening}")
    with ServerProcess(environ={"CHAT_AUTH__SECRET": SECRET}) as server:
        (tmp_path / "visit.js").write_text(VISIT)
        said = subprocess.run(
            [node(), "visit.js", f"{server.url}/api/topics/room:lobby/messages"],
            cwd=tmp_path,
            env=environment(SESSION_SECRET=SECRET, CHAT_AUTH__SECRET=SECRET),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert (said.stdout, said.returncode) == ("401 no-store 201\n", 0), said.stderr
