"""A broadcast with FastAPI on uvicorn, as in FastAPI's documentation: `send_text` one by one."""

import json
import sys
from collections import defaultdict
from contextlib import suppress

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect


def create_app() -> FastAPI:
    """Return the application."""
    app = FastAPI()
    topics: defaultdict[str, set[WebSocket]] = defaultdict(set)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({"type": "welcome"})
        try:
            with suppress(WebSocketDisconnect):
                while True:
                    message = await websocket.receive_json()
                    if message["type"] == "subscribe":
                        topics[message["topic"]].add(websocket)
                        await websocket.send_text('{"type":"ok","id":1}')
                    elif message["type"] == "publish":
                        text = _delivery(message)
                        for subscriber in list(topics[message["topic"]]):
                            await subscriber.send_text(text)
        finally:
            for subscribers in topics.values():
                subscribers.discard(websocket)

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
    uvicorn.run(
        create_app(),
        port=int(sys.argv[1]),
        log_level="warning",
        loop="uvloop",
        # No server has compression or pings, so the comparison covers only fan-out.
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
