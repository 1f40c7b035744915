"""`/auth/refresh` of a server whose users an application signs in itself."""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from quart import Blueprint, Request, Response, request
from quart_schema import document_response, security_scheme

from ..accounts.access import AccessTokens, Identity
from ..protocol.errors import Unauthorized
from .callers import Callers
from .commands import respond
from .cookies import check_own_page

Authenticate = Callable[[Request], Awaitable[Identity | None]]
"""Returns the user of a request by the application's own session, or None."""


class SessionOk(msgspec.Struct):
    """`access_token` is for the chat."""

    access_token: str
    expires_in: int
    user: Identity
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105


def session_blueprint(
    authenticate: Authenticate, tokens: AccessTokens, callers: Callers
) -> Blueprint:
    """Return the route.

    Args:
        authenticate: the application's hook.
        tokens: issues the access tokens.
        callers: bounds how often an address asks.
    """
    blueprint = Blueprint("chat_session", __name__)

    @blueprint.post("/auth/refresh")
    @security_scheme([])
    @document_response(SessionOk, 200)
    async def refresh() -> Response:
        """Get an access token for the session that the application has with this browser."""
        callers.admit()
        check_own_page(request)
        identity = await authenticate(request)
        if identity is None:
            raise Unauthorized("session: you are not signed in")
        access = tokens.issue(identity)
        return respond(SessionOk(access.token, access.expires_in, identity))

    return blueprint
