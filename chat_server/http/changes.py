"""`/api/topics/{topic}/messages/{seq}`: change a message."""

from typing import Any

import msgspec
from quart import Blueprint, Response
from quart_schema import document_querystring, document_request, document_response

from ..protocol.commands import Append, Delete, Edit, Emoji, Epoch, Key, MessageState, React
from ..protocol.messages import AppendOk, ChangeOk
from .commands import RequestCommands, respond

PATH = "/api/topics/<path:topic>/messages/<int:seq>"


class EditRequest(msgspec.Struct):
    """`data` is any JSON value; `epoch` is the epoch of `seq`; `key` as in a publication."""

    data: Any
    epoch: Epoch | None = None
    key: Key | None = None


class AppendRequest(msgspec.Struct):
    """`text` is added to the message's; `state` ends the stream; the rest as in an edit."""

    text: str
    state: MessageState = "streaming"
    epoch: Epoch | None = None
    key: Key | None = None


class ReactionRequest(msgspec.Struct):
    """`emoji` is one character; `remove` takes the reaction back; the rest as in an edit."""

    emoji: Emoji
    remove: bool = False
    epoch: Epoch | None = None
    key: Key | None = None


class DeleteQuery(msgspec.Struct):
    """How a deletion is carried out.

    Args:
        epoch: the epoch that counts the seq of the message; by default the present one.
        key: idempotency key, as of a publication.
    """

    epoch: Epoch | None = None
    key: Key | None = None


def add_change_routes(blueprint: Blueprint, commands: RequestCommands) -> None:
    """Add the routes to a blueprint."""

    @blueprint.patch(PATH)
    @document_request(EditRequest)
    @document_response(ChangeOk, 200)
    async def edit(topic: str, seq: int) -> Response:
        """Replace a message's data."""
        return respond(await commands.run(Edit, topic, seq=seq))

    @blueprint.delete(PATH)
    @document_querystring(DeleteQuery)
    @document_response(ChangeOk, 200)
    async def delete(topic: str, seq: int) -> Response:
        """Delete a message's data."""
        return respond(await commands.run(Delete, topic, seq=seq))

    @blueprint.post(f"{PATH}/append")
    @document_request(AppendRequest)
    @document_response(AppendOk, 200)
    async def append(topic: str, seq: int) -> Response:
        """Add to the text of a streaming message."""
        return respond(await commands.run(Append, topic, seq=seq))

    @blueprint.post(f"{PATH}/reactions")
    @document_request(ReactionRequest)
    @document_response(ChangeOk, 200)
    async def react(topic: str, seq: int) -> Response:
        """Add a reaction to a message, or remove one."""
        return respond(await commands.run(React, topic, seq=seq))
