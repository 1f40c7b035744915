"""An application in the test's own loop, asked without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quart import Quart, Response

from chat_server.app import create_app
from chat_server.clock import Clock
from chat_server.extension import ChatServer
from chat_server.realtime.node import Node
from tests.rig.server import mint
from tests.server.inprocess import make_settings

MESSAGES = "/api/topics/room:lobby/messages"

BATCH = "/api/messages"

PROBLEM = "application/problem+json"


class Client:
    """A started application and its test client."""

    def __init__(self, app: Quart, client: Any) -> None:
        self.app = app
        self._client = client

    @property
    def node(self) -> Node:
        """The application's node."""
        chat: ChatServer = self.app.extensions["chat_server"]
        return chat.node

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Response:
        """Make a request."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        response: Response = await self._client.open(path, method=method, headers=sent, **options)
        return response

    async def publish(self, data: object, *, path: str = MESSAGES, **more: Any) -> Response:
        """Publish as ada."""
        return await self.ask("POST", path, token=mint("ada"), json={"data": data, **more})

    async def publish_many(self, *messages: object, token: str | None = None) -> Response:
        """Publish a batch, as ada if no token is given."""
        token = token or mint("ada")
        return await self.ask("POST", BATCH, token=token, json={"messages": messages})

    async def history(self, **query: object) -> Response:
        """Read as ada."""
        texts = {name: str(value) for name, value in query.items()}
        return await self.ask("GET", MESSAGES, token=mint("ada"), query_string=texts)


@asynccontextmanager
async def client(*, clock: Clock | None = None, **flags: object) -> AsyncIterator[Client]:
    """Start an application with the testing settings and these."""
    app = create_app(make_settings(**flags), clock=clock)
    async with app.test_app() as test_app:
        yield Client(app, test_app.test_client())


async def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """Return a response's problem document after checking what holds for all of them."""
    body: dict[str, Any] = await response.get_json(force=True)
    assert response.status_code == status, body
    assert response.content_type == PROBLEM
    assert body["status"] == status
    assert body["code"] == code
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert set(body) <= {
        *("title", "status", "detail", "code", "request_id", "topic", "retry_in_ms", "fields")
    }
    return body
