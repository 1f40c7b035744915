"""The address to count a client's requests under, also behind proxies."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

_HOP = re.compile(
    r"\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::[0-9]{1,5})?"  # [::1], [::1]:80
    r"|([0-9.]+)(?::[0-9]{1,5})?"  # 192.0.2.1, 192.0.2.1:80
    r"|([0-9A-Fa-f:.]+)(?:%.*)?",  # 2001:db8::1, fe80::1%eth0
    re.ASCII,
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The addresses of IPv4 clients at a server with only IPv6: RFC 6052, section 2.1."""


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_hops: int) -> str:
    """Return the client's address, for counting its requests.

    Args:
        peer: the address at the other end of the socket.
        forwarded_for: every X-Forwarded-For header, in order.
        trusted_hops: the number of our own proxies in front; each has appended the address of its
            client. Earlier addresses are the client's claim, and not believed.
    """
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",") if hop.strip()]
    if trusted_hops and len(hops) >= trusted_hops:
        # If our proxy has written no address, the client's earlier claim does not replace it.
        network = _network(hops[-trusted_hops])
        if network is not None:
            return network
    return "unknown" if peer is None else _network(peer) or peer


def listed_address(text: str) -> str:
    """Return an address written by a person in the form of connections' addresses.

    Args:
        text: an IPv4 address, an IPv6 address or its /64, or `unknown`.

    Raises:
        ValueError: the text is none of these.
    """
    network = _network(text.removesuffix("/64") if ":" in text else text)
    if network is None and text != "unknown":
        raise ValueError("must be an IPv4 address, or an IPv6 address or its /64")
    return network or text


# Most clients behind a proxy have the proxy's address.
@lru_cache(maxsize=1_024)
def _network(text: str) -> str | None:
    """Return an IPv4 address, or the /64 of an IPv6 address, a network of one subscriber line.

    Args:
        text: an address in the spelling of a proxy: plain, with a port, in brackets, or quoted
            (RFC 7239).

    Returns:
        The address in its normal form, or None if `text` is no address.
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
