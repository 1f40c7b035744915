"""Reads what a client offers in its WebSocket handshake (docs/protocol.md, section 1)."""

import ipaddress
import re
from collections.abc import Sequence
from enum import Enum, auto
from urllib.parse import urlsplit

from msgspec import Struct

from ..protocol.codecs import CODECS, JSON, Codec
from ..protocol.errors import BadRequest, Forbidden, Unauthorized
from ..settings import origin_pattern

_BEARER_SUBPROTOCOL = "bearer."
_BEARER_RULE = "Authorization: must be 'Bearer <jwt>'"
_HOP = re.compile(
    r"\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::[0-9]{1,5})?"  # [::1], [::1]:80
    r"|([0-9.]+)(?::[0-9]{1,5})?"  # 192.0.2.1, 192.0.2.1:80
    r"|([0-9A-Fa-f:.]+)(?:%.*)?",  # 2001:db8::1, fe80::1%eth0
    re.ASCII,
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Where all IPv4 clients of a server without IPv4 come from: RFC 6052, section 2.1."""

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
        allowed: see `settings.origin_pattern`.

    Raises:
        Forbidden: the origin is none of these.
    """
    if origin is None or any(origin_pattern(text).match(origin) for text in allowed):
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
    authorization: Sequence[str], offered: Sequence[str], query: str | None
) -> Credentials:
    """Return the token with the highest precedence.

    Args:
        authorization: every Authorization header. One of another scheme is not for us: a staging
            site may have Basic authentication in front.
        offered: the subprotocols.
        query: the parameter `token` of the address.

    Raises:
        Unauthorized: an Authorization header is meant for us, but holds no token.
    """
    token = _header_token(authorization)
    if token is not None:
        return Credentials(Source.HEADER, token)
    for name in offered:
        if name.startswith(_BEARER_SUBPROTOCOL):
            return Credentials(Source.SUBPROTOCOL, name.removeprefix(_BEARER_SUBPROTOCOL))
    if query is not None:
        return Credentials(Source.QUERY, query)
    return Credentials(Source.NONE)


def bearer_token(authorization: Sequence[str]) -> str:
    """Return the token of a request's Authorization headers, RFC 6750 section 2.1.

    Raises:
        Unauthorized: there is none, or more than one.
    """
    token = _header_token(authorization)
    if token is None:
        raise Unauthorized(_BEARER_RULE)
    return token


def _header_token(authorization: Sequence[str]) -> str | None:
    tokens = []
    for header in authorization:
        scheme, _, credentials = header.strip().partition(" ")
        # Without a space it is a token whose scheme was forgotten, or the scheme alone.
        if scheme.lower() == "bearer" or not credentials:
            tokens.append(credentials.strip() if scheme.lower() == "bearer" else "")
    if len(tokens) > 1:
        raise Unauthorized("Authorization: must hold one bearer token")
    if tokens == [""]:
        raise Unauthorized(_BEARER_RULE)
    return tokens[0] if tokens else None


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_hops: int) -> str:
    """Return what a request is counted under: the address it comes from, as far as it is believed.

    Args:
        peer: the address at the other end of the socket.
        forwarded_for: every X-Forwarded-For header, in order.
        trusted_hops: proxies of ours in front; each has appended the address it saw.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    if trusted_hops and len(hops) >= trusted_hops:
        # What is left of it is the client's own claim, so it does not stand in for what is no
        # address.
        network = _network(hops[-trusted_hops])
        if network is not None:
            return network
    return "unknown" if peer is None else _network(peer) or peer


def _network(text: str) -> str | None:
    """Return the address in one spelling, of an IPv6 one the /64 that one subscriber has.

    Args:
        text: an address as proxies write it: plain, with a port, in brackets, quoted (RFC 7239).

    Returns:
        None if it is no address.
    """
    match = _HOP.fullmatch(text.strip('"'))
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    embedded = address.ipv4_mapped
    if embedded is None and address in _NAT64:
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if embedded is not None:
        return str(embedded)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
