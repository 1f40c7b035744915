"""The minimum of a Quart WebSocket route: a greeting, and one answer per message.

The reference of the connect budget; the route ignores tokens and keeps no subscriptions.
"""

import sys

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, websocket


def create_app() -> Quart:
    """Return the application."""
    app = Quart(__name__)

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.send('{"type":"welcome"}')
        while True:
            await websocket.receive()
            await websocket.send('{"type":"ok","id":1}')

    return app


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    uvloop.run(serve(create_app(), config))
