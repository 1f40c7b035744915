"""`/api/call/{method}`: call a function of the application's."""

from typing import Any

import msgspec
from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ..protocol.messages import CallOk
from .commands import RequestCommands, respond


class CallRequest(msgspec.Struct):
    """`data` is any JSON value that the method accepts."""

    data: Any


def add_call_route(blueprint: Blueprint, commands: RequestCommands) -> None:
    """Add the route to a blueprint."""

    @blueprint.post("/api/call/<method>")
    @document_request(CallRequest)
    @document_response(CallOk, 200)
    async def call(method: str) -> Response:
        """Call a method of the application's."""
        return respond(await commands.run_call(method))
