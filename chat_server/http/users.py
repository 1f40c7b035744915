"""`/users` and `/invitations`: sign up, look users up, invite others."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response
from quart_schema import (
    document_querystring,
    document_request,
    document_response,
    security_scheme,
)

from ..accounts.accounts import Accounts
from ..accounts.invitations import Invitation
from ..accounts.roles import MEMBER
from ..accounts.users import Account
from ..user_data import UserData
from .callers import Callers
from .commands import read_query, respond
from .fields import read_fields
from .sign_in import Name, Password
from .user_data import add_user_data_routes

MAX_USERS = 1_000
DEFAULT_USERS = 100


class SignUpRequest(msgspec.Struct):
    """`invitation` is needed where sign-up is by invitation."""

    name: Name
    password: Password
    invitation: Annotated[str, Meta(max_length=256)] | None = None


class UsersQuery(msgspec.Struct):
    """Accounts in the order of their names.

    Args:
        after: the user before the page.
        limit: maximum number of accounts.
    """

    after: Annotated[str, Meta(max_length=256)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_USERS)] = DEFAULT_USERS


class UsersOk(msgspec.Struct):
    """Users, and whether more users follow."""

    users: list[Account]
    more: bool


class InvitationRequest(msgspec.Struct):
    """`roles` are for the user who signs up with the invitation; `email` gets the link."""

    roles: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=16)] = (
        MEMBER,
    )
    email: Annotated[str, Meta(max_length=254)] | None = None


def users_blueprint(accounts: Accounts, callers: Callers, user_data: UserData | None) -> Blueprint:
    """Return the routes, for the accounts of this server."""
    blueprint = Blueprint("chat_users", __name__)

    @blueprint.post("/users")
    @security_scheme([])
    @document_request(SignUpRequest)
    @document_response(Account, 201)
    async def sign_up() -> Response:
        """Sign up."""
        address = callers.admit()
        given = await read_fields(SignUpRequest)
        account = await accounts.sign_up(
            given.name, given.password, invitation=given.invitation, address=address
        )
        return respond(account, 201)

    @blueprint.get("/users")
    @document_querystring(UsersQuery)
    @document_response(UsersOk, 200)
    async def users() -> Response:
        """List users, if the role of the caller allows."""
        user = await callers.user()
        query = read_query(UsersQuery)
        found, more = await accounts.users(user, query.after, query.limit)
        return respond(UsersOk(found, more))

    @blueprint.get("/users/<id>")
    @document_response(Account, 200)
    async def user(id: str) -> Response:
        """Read a user's record: the caller's own, or any if the caller's role allows."""
        return respond(await accounts.user(await callers.user(), id))

    @blueprint.post("/invitations")
    @document_request(InvitationRequest)
    @document_response(Invitation, 201)
    async def invite() -> Response:
        """Make an invitation, if the role of the caller allows.

        The link for the chat page is `/#invitation=` and the token.
        """
        user = await callers.user()
        given = await read_fields(InvitationRequest)
        return respond(await accounts.invite(user, given.roles, given.email), 201)

    add_user_data_routes(blueprint, accounts, user_data, callers)
    return blueprint
