"""The application of docs/shop.md does what the page says, as a server of its own."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chat_server.client import Client, CommandFailed, connect

from ..rig.server import ServerProcess
from ..rig.waiting import until_async
from .markdown import ROOT, blocks

PAGE = (ROOT / "docs" / "shop.md").read_text("utf-8")
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("shop")
    [code] = [block.text for block in blocks(PAGE) if block.kind == "python"]
    (folder / "shop.py").write_text(code, "utf-8")
    environ = {
        "SHOP_SECRET": "of this test",
        "SHOP_DATABASE": f"sqlite+aiosqlite:///{folder}/shop.db",
    }
    with ServerProcess("--app", "shop:app", environ=environ, folder=folder) as running:
        yield running


class Customer:
    """A customer's browser."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        self.http = httpx.AsyncClient(base_url=server.url, headers={"Origin": server.url})
        self._server = server
        self._name = name

    async def sign_up(self) -> None:
        given = {"name": self._name, "password": PASSWORD}
        assert (await self.http.post("/customers", json=given)).status_code == 201

    async def token(self) -> str:
        answer = await self.http.post("/auth/refresh")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def chat(self) -> Client:
        return connect(self._server.url, token=await self.token())

    async def order(self, item: str) -> Any:
        return await self.http.post("/orders", json={"item": item})


async def test_the_shop(server: ServerProcess) -> None:
    ada, eve = Customer(server, "Ada"), Customer(server, "Eve")
    assert (await ada.http.post("/auth/refresh")).status_code == 401
    assert (await ada.order("tea")).status_code == 401
    await ada.sign_up()
    await eve.sign_up()
    order = (await ada.order("tea")).json()
    assert (order["state"], order["topic"]) == ("open", f"order:{order['id']}")
    assert (await ada.order("unicorn")).status_code == 409
    async with await ada.chat() as hers, await eve.chat() as others:
        topic = order["topic"]
        await until_async(lambda: has(hers, topic, ["Thank you! We pack: tea"]))
        for attempt in (
            others.history(topic),
            others.publish(topic, {"text": "hi"}),
            others.call("order.cancel", topic),
            hers.history("order:999"),
            hers.history("order:" + "9" * 30),
            hers.history(f"order:{order['id'] + 1}"),  # rolled back
        ):
            with pytest.raises(CommandFailed, match="there is no such order") as refused:
                await attempt
            assert refused.value.code == "not_found"
        with pytest.raises(CommandFailed, match="must have a text"):
            await hers.publish(topic, "hi")
        await hers.publish(topic, {"text": " with milk, please ", "more": 1})
        with pytest.raises(CommandFailed, match="stays"):
            await hers.delete(topic, 2)
        assert await hers.call("order.cancel", topic) == {"state": "cancelled"}
        expected = ["Thank you! We pack: tea", "with milk, please", {"state": "cancelled"}]
        await until_async(lambda: has(hers, topic, expected))
        with pytest.raises(CommandFailed, match="the order is cancelled"):
            await hers.publish(topic, {"text": "wait"})
    next_order = (await ada.order("milk")).json()
    async with await ada.chat() as hers:
        await until_async(lambda: has(hers, next_order["topic"], ["Thank you! We pack: milk"]))
    await asyncio.gather(ada.http.aclose(), eve.http.aclose())


async def has(client: Client, topic: str, expected: list[Any]) -> bool:
    found = [message.data for message in (await client.history(topic)).messages]
    return [each.get("text", each) for each in found] == expected


async def test_signing_in(server: ServerProcess) -> None:
    bob = Customer(server, "Bob")
    await bob.sign_up()
    async with httpx.AsyncClient(base_url=server.url) as http:
        for name, password, status in (
            ("Bob", "wrong", 401),
            ("Nobody", PASSWORD, 401),
            ("Bob", PASSWORD, 200),
        ):
            answer = await http.post("/sign-in", json={"name": name, "password": password})
            assert answer.status_code == status
        assert (await http.post("/sign-in", json={"name": "Bob"})).status_code == 400
    await bob.http.aclose()
