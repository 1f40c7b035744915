"""docs/accounts.md: its commands print what stands below them, and its application serves."""

import subprocess
import sys
from pathlib import Path

from ..rig.server import ServerProcess
from .markdown import ROOT, blocks
from .walk import SECONDS, Walk

TEXT = (ROOT / "docs" / "accounts.md").read_text("utf-8")


def test_commands(tmp_path: Path) -> None:
    environ = {
        "CHAT_ENVIRONMENT": "testing",
        "CHAT_ACCOUNTS__ENABLED": "on",
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
    }
    with ServerProcess(environ=environ) as server:
        walk = Walk(server, tmp_path)
        walk.environ |= environ
        walk.follow(TEXT)
        assert len(walk.followed) == 2, walk.followed


def test_an_application_with_sessions_of_its_own() -> None:
    [snippet] = [block.text for block in blocks(TEXT) if block.kind == "python"]
    probe = """
async def main() -> None:
    async with app.test_app() as running:
        client = running.test_client()
        own = {"Origin": "http://localhost"}
        answer = await client.post("/auth/refresh", headers=own)
        assert answer.status_code == 401
        answer = await client.post("/auth/refresh", headers=own | {"Cookie": "session=s-1"})
        claims = await chat.verifier.verify((await answer.get_json())["access_token"])
        assert (claims.sub, claims.name) == ("7", "Ada")

import asyncio
asyncio.run(main())
"""
    subprocess.run(
        [sys.executable, "-c", snippet + probe],
        cwd=ROOT,
        env={"CHAT_ENVIRONMENT": "testing"},
        check=True,
        timeout=SECONDS,
    )
