"""A broadcast as a first version with Quart: a queue and a task for each connection."""

import asyncio
import json
import sys
from collections import defaultdict

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, websocket


def create_app() -> Quart:
    """Return the application."""
    app = Quart(__name__)
    topics: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)

    async def send(queue: asyncio.Queue[str]) -> None:
        while True:
            await websocket.send(await queue.get())

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()
        await queue.put(json.dumps({"type": "welcome"}))
        sender = asyncio.create_task(send(queue))
        try:
            while True:
                message = json.loads(await websocket.receive())
                if message["type"] == "subscribe":
                    topics[message["topic"]].add(queue)
                    await queue.put(json.dumps({"type": "ok", "id": message["id"]}))
                elif message["type"] == "publish":
                    text = _delivery(message)
                    for subscriber in topics[message["topic"]]:
                        await subscriber.put(text)
        finally:
            sender.cancel()
            for subscribers in topics.values():
                subscribers.discard(queue)

    return app


def _delivery(message: dict[str, object]) -> str:
    return json.dumps(
        {
            "type": "message",
            "topic": message["topic"],
            "seq": message["id"],
            "at": 1700000000000,
            "from": {"user": "publisher-0"},
            "data": message["data"],
        }
    )


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    uvloop.run(serve(create_app(), config))
