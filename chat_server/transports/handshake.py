"""Reads a client's WebSocket handshake: origin, encoding, token (docs/protocol.md, section 1)."""

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
"""The addresses of IPv4 clients, to a server that has only IPv6: RFC 6052, section 2.1."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


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
    if host is not None and _is_same_host(origin, host):
        return
    raise Forbidden("origin: is not allowed to connect")


def _is_same_host(origin: str, host: str) -> bool:
    # Without the scheme: behind a proxy that ends TLS the server does not know its own.
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
        authorization: every Authorization header. Those of other schemes are passed over: a
            staging site may have Basic authentication in front.
        offered: the subprotocols.
        query: the parameter `token` of the URL.

    Raises:
        Unauthorized: a Bearer header holds no token.
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
        # A header without a space is a token without its scheme, or the scheme alone.
        if scheme.lower() == "bearer" or not credentials:
            tokens.append(credentials.strip() if scheme.lower() == "bearer" else "")
    if len(tokens) > 1:
        raise Unauthorized("Authorization: must hold one bearer token")
    if tokens == [""]:
        raise Unauthorized(_BEARER_RULE)
    return tokens[0] if tokens else None


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_hops: int) -> str:
    """Return the client's address, under which its requests are counted.

    Args:
        peer: the address at the other end of the socket.
        forwarded_for: every X-Forwarded-For header, in order.
        trusted_hops: the number of our own proxies in front, each of which has appended the address
            of its client. Everything before those is the client's claim, and not believed.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    if trusted_hops and len(hops) >= trusted_hops:
        # If our proxy has written no address, the client's claim before it does not replace it.
        network = _network(hops[-trusted_hops])
        if network is not None:
            return network
    return "unknown" if peer is None else _network(peer) or peer


def _network(text: str) -> str | None:
    """Return an IPv4 address, or the /64 of an IPv6 address, which one subscriber has to itself.

    Args:
        text: an address in the spelling of a proxy: plain, with a port, in brackets, or quoted
            (RFC 7239).

    Returns:
        The address in its normal form, or None if `text` is none.
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
