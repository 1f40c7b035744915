"""`/auth/…`: sign in, stay signed in, sign out, change the password."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from quart import Blueprint, Response, request
from quart_schema import document_request, document_response, security_scheme

from ..accounts.accounts import Accounts, SignedIn
from ..accounts.users import Account
from ..protocol.errors import Unauthorized
from .callers import Callers
from .commands import OK_HEADERS, respond
from .cookies import check_own_page, delete_cookie, read_cookie, set_cookie
from .fields import read_fields

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Password = Annotated[str, Meta(max_length=1_024)]
RefreshText = Annotated[str, Meta(max_length=256)]


class LoginRequest(msgspec.Struct):
    """With `cookie` the refresh token becomes a cookie, for pages of this server."""

    name: Name
    password: Password
    cookie: bool = False


class RefreshRequest(msgspec.Struct):
    """Without `refresh_token` the cookie's token is used."""

    refresh_token: RefreshText | None = None


class LogoutRequest(RefreshRequest):
    """`everywhere` ends all sign-ins of the user."""

    everywhere: bool = False


class LogoutOk(msgspec.Struct):
    """The sign-in is over, perhaps since before."""


class PasswordRequest(msgspec.Struct):
    """The old and the new password; `cookie` as in a login."""

    password: Password
    new_password: Password
    cookie: bool = False


class SignInOk(msgspec.Struct):
    """`access_token` is for the chat. `refresh_token` is for `/auth/refresh`, once.

    With a cookie `refresh_token` is left out.
    """

    access_token: str
    expires_in: int
    user: Account
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    refresh_token: str | UnsetType = UNSET
    refresh_expires_in: int | UnsetType = UNSET


def sign_in_blueprint(accounts: Accounts, callers: Callers) -> Blueprint:
    """Return the routes, for the accounts of this server."""
    blueprint = Blueprint("chat_sign_in", __name__)

    @blueprint.post("/auth/login")
    @security_scheme([])
    @document_request(LoginRequest)
    @document_response(SignInOk, 200)
    async def login() -> Response:
        """Sign in with a name and a password."""
        address = callers.admit()
        given = await read_fields(LoginRequest)
        if given.cookie:
            check_own_page(request)
        signed_in = await accounts.log_in(given.name, given.password, address=address)
        return _signed_in(signed_in, cookie=given.cookie)

    @blueprint.post("/auth/refresh")
    @security_scheme([])
    @document_request(RefreshRequest)
    @document_response(SignInOk, 200)
    async def refresh() -> Response:
        """Get the next access token, and the next refresh token.

        A refresh token used again within a minute gets the same answer. A later use ends the
        sign-in, because the token may be stolen.
        """
        callers.admit()
        token, cookie = _refresh_token(await read_fields(RefreshRequest))
        if token is None:
            raise Unauthorized("refresh_token: there is none, and no cookie")
        return _signed_in(await accounts.refresh(token), cookie=cookie)

    @blueprint.post("/auth/logout")
    @security_scheme([])
    @document_request(LogoutRequest)
    @document_response(LogoutOk, 200)
    async def logout() -> Response:
        """End a sign-in; all access tokens of the user are revoked."""
        callers.admit()
        given = await read_fields(LogoutRequest)
        token, cookie = _refresh_token(given)
        if token is not None:
            await accounts.log_out(token, everywhere=given.everywhere)
        response = respond(LogoutOk())
        if cookie:
            delete_cookie(request, response)
        return response

    _add_password_route(blueprint, accounts, callers)
    return blueprint


def _add_password_route(blueprint: Blueprint, accounts: Accounts, callers: Callers) -> None:
    @blueprint.post("/auth/password")
    @document_request(PasswordRequest)
    @document_response(SignInOk, 200)
    async def password() -> Response:
        """Change the password; all sign-ins of the user end, and a new one begins."""
        address = callers.admit()
        user = await callers.user()
        given = await read_fields(PasswordRequest)
        if given.cookie:
            check_own_page(request)
        signed_in = await accounts.change_password(
            user, given.password, given.new_password, address=address
        )
        return _signed_in(signed_in, cookie=given.cookie)


def _refresh_token(given: RefreshRequest) -> tuple[str | None, bool]:
    """Return the refresh token of the current request, and whether a cookie held the token."""
    if given.refresh_token is not None:
        return given.refresh_token, False
    check_own_page(request)
    return read_cookie(request), True


def _signed_in(signed_in: SignedIn, *, cookie: bool) -> Response:
    ok = SignInOk(signed_in.access.token, signed_in.access.expires_in, signed_in.account)
    if not cookie:
        ok.refresh_token = signed_in.refresh_token
        ok.refresh_expires_in = signed_in.refresh_seconds
        return respond(ok)
    response = Response(msgspec.json.encode(ok), 200, OK_HEADERS)
    set_cookie(request, response, signed_in.refresh_token, signed_in.refresh_seconds)
    return response
