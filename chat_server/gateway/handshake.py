"""Reads what a client offers in its WebSocket handshake (docs/protocol.md, section 1)."""

from collections.abc import Sequence
from enum import Enum, auto
from urllib.parse import urlsplit

from msgspec import Struct

from ..protocol.codecs import CODECS, JSON, Codec
from ..protocol.errors import BadRequest, Forbidden, Unauthorized

_BEARER_SUBPROTOCOL = "bearer."
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Source(Enum):
    """Where a token came from, in order of precedence."""

    HEADER = auto()
    SUBPROTOCOL = auto()
    QUERY = auto()
    NONE = auto()


class Credentials(Struct, frozen=True):
    """A token and where it was found."""

    source: Source
    token: str = ""


def check_origin(origin: str | None, host: str | None, allowed: Sequence[str]) -> None:
    """Check that a browser's page may open a connection, RFC 6455 section 10.2.

    Clients other than browsers send no origin and are let through.

    Args:
        origin: the Origin header.
        host: the Host header; a page of this very host may always connect.
        allowed: origins as scheme://host[:port], or "*" for any.

    Raises:
        Forbidden: the origin is none of these.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return
    if host is not None and _is_same_host(origin, host):
        return
    raise Forbidden("origin: is not allowed to connect")


def _is_same_host(origin: str, host: str) -> bool:
    # The scheme is left out: behind a proxy that ends TLS the server cannot know it.
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS.get(parts.scheme)
        if default is None or parts.hostname is None:
            return False
        own = urlsplit(f"//{host}")
        return parts.hostname == own.hostname and (parts.port or default) == (own.port or default)
    except ValueError:
        return False


def negotiate(offered: Sequence[str]) -> tuple[Codec, str | None]:
    """Choose the encoding: the first of those offered that the server speaks.

    Returns:
        The codec, and the subprotocol to answer with (None when none of ours was offered).

    Raises:
        BadRequest: subprotocols were offered, but none that the server knows.
    """
    for name in offered:
        if name in CODECS:
            return CODECS[name], name
    if any(not name.startswith(_BEARER_SUBPROTOCOL) for name in offered):
        raise BadRequest(f"subprotocol: must be one of {', '.join(CODECS)}")
    return JSON, None


def find_credentials(
    authorization: str | None, offered: Sequence[str], query: str | None
) -> Credentials:
    """Return the token with the highest precedence.

    Raises:
        Unauthorized: the Authorization header holds something else than a bearer token.
    """
    if authorization is not None:
        return Credentials(Source.HEADER, bearer_token(authorization))
    for name in offered:
        if name.startswith(_BEARER_SUBPROTOCOL):
            return Credentials(Source.SUBPROTOCOL, name.removeprefix(_BEARER_SUBPROTOCOL))
    if query is not None:
        return Credentials(Source.QUERY, query)
    return Credentials(Source.NONE)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header, RFC 6750 section 2.1.

    Raises:
        Unauthorized: there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("Authorization: must be 'Bearer <jwt>'")
    return token.strip()


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_hops: int) -> str:
    """Return the address a request comes from, as far as it can be believed.

    Args:
        peer: the address at the other end of the socket.
        forwarded_for: every X-Forwarded-For header, in order.
        trusted_hops: proxies of ours in front; each has appended the address it saw.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    if trusted_hops and len(hops) >= trusted_hops:
        return hops[-trusted_hops][:64]
    return peer or "unknown"
