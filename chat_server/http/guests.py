"""`POST /dev/token`: a token for every caller, on servers with the public secret."""

import secrets
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from quart import Blueprint, Response
from quart_schema import hide

from ..auth.tokens import issue_token
from ..clock import Clock
from ..settings import Settings
from .callers import Callers
from .commands import respond
from .fields import read_fields

GUEST_SECONDS: Final = 24 * 3600.0


class GuestRequest(msgspec.Struct):
    """The public profile of a guest: a name, and the hue of a colour in degrees."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    hue: Annotated[int, Meta(ge=0, le=359)] | None = None


class GuestOk(msgspec.Struct):
    """A token of a new user."""

    token: str


def has_guests(settings: Settings) -> bool:
    """Return whether guests are allowed: only with the public secret, never in production."""
    return settings.auth.uses_public_secret and settings.environment != "production"


def guest_blueprint(settings: Settings, clock: Clock, callers: Callers) -> Blueprint:
    """Return the route.

    Args:
        settings: of a server for which `has_guests` is true.
        clock: tells the time of issue.
        callers: bounds how often an address asks.
    """
    blueprint = Blueprint("chat_guests", __name__)

    @blueprint.post("/dev/token")
    @hide
    async def token() -> Response:
        """Get a token for a day."""
        callers.admit()
        given = await read_fields(GuestRequest)
        issued = issue_token(
            settings.auth,
            sub=f"guest-{secrets.token_hex(3)}",
            name=given.name,
            info=None if given.hue is None else {"hue": given.hue},
            ttl_seconds=GUEST_SECONDS,
            clock=clock,
        )
        return respond(GuestOk(issued))

    return blueprint
