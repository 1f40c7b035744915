"""`/users/{id}/export` and the end of an account: users' rights over their data."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ..accounts.accounts import Accounts
from ..protocol.errors import Invalid, Unavailable
from ..user_data import Export, UserData
from .callers import Callers
from .commands import OK_HEADERS, respond
from .fields import read_fields

SECONDS = 3_600
"""Seconds in which the response with an export must have been sent."""


class CloseRequest(msgspec.Struct):
    """The password, for the caller's own account."""

    password: Annotated[str, Meta(max_length=1_024)] | None = None


class CloseOk(msgspec.Struct):
    """The account is closed, and its messages are going to be erased."""


def add_user_data_routes(
    blueprint: Blueprint, accounts: Accounts, user_data: UserData | None, callers: Callers
) -> None:
    """Add the routes to a blueprint.

    Args:
        blueprint: of the accounts.
        accounts: check permissions.
        user_data: exports and erases; None if the server has no jobs.
        callers: identify the caller.
    """

    def ready() -> UserData:
        if user_data is None:
            raise Unavailable("exports and erasures need jobs: pip install 'quart-chat[jobs]'")
        return user_data

    @blueprint.post("/users/<id>/export")
    @document_response(Export, 202)
    async def request_export(id: str) -> Response:
        """Export a user's messages; an export from the last hour is not made anew."""
        callers.admit()
        await accounts.check_own(await callers.user(), id)
        return respond(await ready().request_export(id), 202)

    @blueprint.get("/users/<id>/export")
    @document_response(Export, 200)
    async def export(id: str) -> Response:
        """Read the progress of an export, which is ready once `done_at` is set."""
        await accounts.check_own(await callers.user(), id)
        return respond(await ready().export(id))

    @blueprint.get("/users/<id>/export/messages")
    async def messages(id: str) -> Response:
        """Fetch an export: JSON lines, compressed by gzip."""
        await accounts.check_own(await callers.user(), id)
        response = Response(await ready().read_export(id), 200, OK_HEADERS)
        response.content_type = "application/gzip"
        response.headers["Content-Disposition"] = 'attachment; filename="messages.jsonl.gz"'
        response.timeout = SECONDS
        return response

    @blueprint.delete("/users/<id>")
    @document_request(CloseRequest)
    @document_response(CloseOk, 202)
    async def close(id: str) -> Response:
        """Close an account and erase its messages for good: the caller's, or any for a manager."""
        address = callers.admit()
        by = await callers.user()
        await accounts.check_may_close(by, id)
        given = await read_fields(CloseRequest)
        if by == id:
            if given.password is None:
                raise Invalid({"password": "is missing: it is needed to close your own account"})
            await accounts.log_in(id, given.password, address=address)
        await ready().request_erasure(id)
        return respond(CloseOk(), 202)
