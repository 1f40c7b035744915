"""Reads a client's WebSocket handshake: origin, encoding, token (docs/protocol.md, section 1)."""

from collections.abc import Sequence
from enum import Enum, auto

from msgspec import Struct

from ..auth.bearer import header_token
from ..protocol.codecs import CODECS, JSON, Codec
from ..protocol.errors import BadRequest, Forbidden
from ..settings import is_same_host, origin_pattern

_BEARER_SUBPROTOCOL = "bearer."


class Source(Enum):
    """The places of a token, in order of precedence."""

    HEADER = auto()
    SUBPROTOCOL = auto()
    QUERY = auto()
    NONE = auto()


class Credentials(Struct, frozen=True):
    """A token, and its place in the handshake."""

    source: Source
    token: str = ""


def check_origin(origin: str | None, host: str | None, allowed: Sequence[str]) -> None:
    """Check that a browser's page may open a connection, RFC 6455 section 10.2.

    Clients other than browsers send no origin and may connect.

    Args:
        origin: the Origin header.
        host: the Host header; a page of this very host may always connect.
        allowed: see `settings.origin_pattern`.

    Raises:
        Forbidden: the origin is neither allowed nor this host.
    """
    if origin is None or any(origin_pattern(text).match(origin) for text in allowed):
        return
    if host is not None and is_same_host(origin, host):
        return
    raise Forbidden("origin: is not allowed to connect")


def negotiate(offered: Sequence[str]) -> tuple[Codec, str | None]:
    """Choose the encoding: the first offer that the server knows.

    Returns:
        The codec, and the subprotocol to answer with (None if the client offers no encoding).

    Raises:
        BadRequest: the client offers subprotocols, and the server knows none of them.
    """
    for name in offered:
        if name in CODECS:
            return CODECS[name], name
    if any(not name.startswith(_BEARER_SUBPROTOCOL) for name in offered):
        raise BadRequest(f"subprotocol: must be one of {', '.join(CODECS)}")
    return JSON, None


def find_credentials(
    authorization: Sequence[str], offered: Sequence[str], query: str | None
) -> Credentials:
    """Return the token with the highest precedence.

    Args:
        authorization: every Authorization header. Headers of other schemes are ignored, because a
            staging site may have Basic authentication in front.
        offered: the subprotocols.
        query: the parameter `token` of the URL.

    Raises:
        Unauthorized: a Bearer header holds no token.
    """
    token = header_token(authorization)
    if token is not None:
        return Credentials(Source.HEADER, token)
    for name in offered:
        if name.startswith(_BEARER_SUBPROTOCOL):
            return Credentials(Source.SUBPROTOCOL, name.removeprefix(_BEARER_SUBPROTOCOL))
    if query is not None:
        return Credentials(Source.QUERY, query)
    return Credentials(Source.NONE)
