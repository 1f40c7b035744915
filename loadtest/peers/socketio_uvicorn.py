"""A broadcast with python-socketio's rooms on uvicorn."""

import sys

import socketio
import uvicorn


def create_app() -> socketio.ASGIApp:
    """Return the application."""
    # No server has compression or pings, so the comparison covers only fan-out.
    server = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, http_compression=False)

    @server.event
    async def subscribe(sid: str, topic: str) -> None:
        await server.enter_room(sid, topic)

    @server.event
    async def publish(sid: str, topic: str, data: dict[str, object]) -> None:
        event = {
            "topic": topic,
            "seq": 1,
            "at": 1700000000000,
            "from": {"user": "publisher-0"},
            "data": data,
        }
        await server.emit("message", event, room=topic)

    return socketio.ASGIApp(server)


if __name__ == "__main__":
    uvicorn.run(
        create_app(),
        port=int(sys.argv[1]),
        log_level="warning",
        loop="uvloop",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
