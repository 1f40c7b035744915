"""The example of docs/outbox.md does what the page says, as a server of its own."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx

from chat_server.client import Message, connect

from ..rig.server import ServerProcess, mint
from ..rig.waiting import until_async
from .markdown import ROOT, blocks
from .walk import SECONDS

PAGE = (ROOT / "docs" / "outbox.md").read_text("utf-8")


def test_the_example(tmp_path: Path) -> None:
    [code] = [block.text for block in blocks(PAGE) if block.kind == "python"]
    (tmp_path / "shop.py").write_text(code, "utf-8")
    environ = {"SHOP_URL": f"sqlite+aiosqlite:///{tmp_path}/shop.db"}
    with ServerProcess("--app", "shop:app", environ=environ, folder=tmp_path) as server:
        asyncio.run(order_something(server))
        listed = subprocess.run(
            [sys.executable, "-m", "chat_server", "outbox", "list"],
            env={"CHAT_ENVIRONMENT": "testing", "OUTBOX_URL": environ["SHOP_URL"]},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert listed.stdout == listed.stderr == ""
        assert " ERROR " not in server.stderr


async def order_something(server: ServerProcess) -> None:
    async with connect(server.url, token=mint("ada", subscribe=["**"], history=["**"])) as ada:
        async with httpx.AsyncClient(base_url=server.url) as http:
            answers = [await http.post(f"/orders/{text}") for text in ("tea", "milk")]
        ids = [answer.json()["id"] for answer in answers]
        assert ids == [1, 2]

        async def is_told() -> bool:
            pages = [await ada.history(f"order:{id}") for id in ids]
            found: list[list[Message]] = [page.messages for page in pages]
            return [[each.data for each in page] for page in found] == [
                [{"text": "tea"}],
                [{"text": "milk"}],
            ]

        await until_async(is_told)
