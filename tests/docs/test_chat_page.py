"""docs/page.md: its applications give tokens, in Quart and in Express."""

import subprocess
import sys
from pathlib import Path

from .markdown import ROOT, blocks
from .walk import SECONDS

BLOCKS = {block.kind: block.text for block in blocks((ROOT / "docs/page.md").read_text("utf-8"))}
SECRET = "0123456789abcdef" * 2


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
